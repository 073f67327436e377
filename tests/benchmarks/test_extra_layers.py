"""The cost-scaled base model computes what the real one computes, in a graph as in a checkpoint."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from pairs import Pair, exported
from safetensors.numpy import load_file

from benchmarks.extra_layers import add_layers
from benchmarks.scaled_pair import scale_bundle, scale_checkpoint
from nudge_onnx.bundle import Bundle
from nudge_onnx.runtime.inference.decoder import Decoder
from nudge_onnx.runtime.inference.opening import open_model

EXTRA = 5
IDS = list(range(4, 40))
APART = ("--no-pass", "join-branches")


def logits(bundle: Bundle) -> np.ndarray:
    """Logits after each of the ids, read as a prompt, singly and several at once."""
    decoder = Decoder(open_model(bundle, "base", ["cpu"], threads=1))
    rows = [decoder.prefill(IDS[:10]).copy(), *(decoder.feed([token]).copy() for token in IDS[10:20])]
    return np.concatenate([*rows, decoder.feed(IDS[20:], rows=len(IDS) - 20)])


@pytest.fixture(scope="module", params=["fp32", "int8", "int4"])
def bundle(request: pytest.FixtureRequest, tiny_word_pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The tiny pair, whose base model is a Gemma 3, in each precision."""
    if request.param == "fp32":
        return Bundle.open(tiny_word_pair.bundle)
    output = tmp_path_factory.mktemp("precision") / request.param
    return Bundle.open(
        exported(tiny_word_pair.base, tiny_word_pair.nudge, output, "--precision", request.param, *APART)
    )


def test_added_layers_cost_weights_and_caches_and_leave_every_logit_what_it_was(bundle: Bundle, tmp_path: Path) -> None:
    scale_bundle(bundle, tmp_path / "scaled", EXTRA)
    scaled = Bundle.open(tmp_path / "scaled")
    scaled.verify()
    before, after = bundle.manifest.models["base"], scaled.manifest.models["base"]
    assert after.cache.layers == before.cache.layers + EXTRA
    graph = onnx.load(scaled.path(after.graph)).graph
    of_layers = [tensor for tensor in graph.initializer if tensor.name.startswith("extra.")]
    assert len({tensor.name for tensor in of_layers}) == len(of_layers) >= EXTRA * 4
    matrices = [tensor for tensor in of_layers if len(tensor.dims) in (2, 3) and not tensor.name.endswith(".scales")]
    assert len(matrices) >= EXTRA * 4
    assert_all_differ(numpy_helper.to_array(tensor) for tensor in matrices)
    np.testing.assert_array_equal(logits(scaled), logits(bundle))


def assert_all_differ(matrices: Iterable[np.ndarray]) -> None:
    """No two have the same bytes, of which ONNX Runtime would keep one and read it for both."""
    contents = [matrix.tobytes() for matrix in matrices]
    assert len(set(contents)) == len(contents)


def test_a_graph_without_layers_is_refused(bundle: Bundle) -> None:
    model = onnx.load(bundle.path(bundle.manifest.models["base"].graph))
    names = dict.fromkeys(("past_key", "past_value", "present_key", "present_value"), "no.such.{layer}")
    with pytest.raises(ValueError, match="no layers"):
        add_layers(model, 1, names)


def test_a_scaled_checkpoint_computes_what_the_checkpoint_computes(tiny_word_pair: Pair, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    scale_checkpoint(tiny_word_pair.base, tmp_path, EXTRA)
    ids = torch.tensor([IDS])
    with torch.no_grad():
        plain, scaled = (
            AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()(ids).logits
            for folder in (tiny_word_pair.base, tmp_path)
        )
    assert torch.equal(plain, scaled)
    assert_all_differ(matrix for matrix in load_file(tmp_path / "model.safetensors").values() if matrix.ndim > 1)
