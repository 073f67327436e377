"""A checkpoint's weights are the model's, each of them, or there is no export."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import tiny_checkpoint

from nudge_onnx.errors import SourceError
from nudge_onnx.export.source.loading import load_model
from nudge_onnx.export.source.weight_names import wrapped_by
from nudge_onnx.export.trace.torch_reference import TorchReference
from nudge_onnx.export.trace.traced_graph import traced_graph

Weights = dict[str, torch.Tensor]


@pytest.fixture
def folder(tiny_pair: tuple[Path, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_pair[0], tmp_path / "model"))


def change(folder: Path, edit: Callable[[Weights], Weights]) -> None:
    path = folder / "model.safetensors"
    save_file(edit(load_file(path)), path, metadata={"format": "pt"})


def configure(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def renamed(old: str, new: str) -> Callable[[Weights], Weights]:
    return lambda weights: {name.replace(old, new): weight for name, weight in weights.items()}


def under(prefix: str) -> Callable[[Weights], Weights]:
    return lambda weights: {f"{prefix}{name}": weight for name, weight in weights.items()}


def without(part: str) -> Callable[[Weights], Weights]:
    return lambda weights: {name: weight for name, weight in weights.items() if part not in name}


def of_another_head(weights: Weights) -> Weights:
    return without("lm_head")(weights) | {"score.weight": torch.zeros(2, 64)}


def with_biases(weights: Weights) -> Weights:
    return weights | {"model.layers.0.self_attn.q_proj.bias": torch.ones(64)}


def with_a_layer_more(weights: Weights) -> Weights:
    return weights | {name.replace("layers.1", "layers.2"): w.clone() for name, w in weights.items() if ".1." in name}


FAULTS: dict[str, tuple[Callable[[Weights], Weights], str]] = {
    "final norm missing": (without("model.norm"), r"\(missing: model.norm.weight\)"),
    "a layer's norm missing": (without("layers.1.input_layernorm"), r"missing: model.layers.1.input_layernorm.weight"),
    "names of another program": (
        renamed("self_attn", "attention"),
        r"missing: .* and 5 more; left over: .* and 5 more",
    ),
    "an unknown wrapper": (under("wrapper."), r"missing: .*left over: .*wrapper.model"),
    "a classification head": (of_another_head, r"missing: lm_head.weight; left over: score.weight"),
    "biases that the configuration ignores": (with_biases, r"left over: model.layers.0.self_attn.q_proj.bias\)"),
    "a layer that the configuration ignores": (with_a_layer_more, r"left over: model.layers.2.* and 6 more"),
}


@pytest.mark.parametrize("load", [traced_graph, lambda folder, _: TorchReference(folder)], ids=["traced", "reference"])
@pytest.mark.parametrize("fault", FAULTS)
def test_weights_of_another_model_are_an_error_that_names_some(
    fault: str, load: Callable[[Path, Path], Any], folder: Path, tmp_path: Path
) -> None:
    edit, line = FAULTS[fault]
    change(folder, edit)
    with pytest.raises(SourceError, match=line) as caught:
        load(folder, tmp_path / "work")
    assert "do not belong together" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_weights_of_another_shape_are_named(folder: Path) -> None:
    configure(folder, intermediate_size=128)
    with pytest.raises(SourceError, match=r"of another shape: model.layers.0.mlp.down_proj.weight, .* and 3 more\)"):
        load_model(folder)


@pytest.mark.parametrize("prefix", ["base_model.model.", "module.", "_orig_mod.", "module._orig_mod."])
@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_a_known_wrapper_is_taken_off(prefix: str, kind: str, folder: Path) -> None:
    expected = load_model(folder).state_dict()
    change(folder, under(prefix))
    if kind == "bin":
        torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
    assert wrapped_by(folder) == prefix
    found = load_model(folder).state_dict()
    assert all(torch.equal(found[name], weight) for name, weight in expected.items())


def test_masks_and_frequencies_that_old_versions_saved_are_no_fault(folder: Path, tmp_path: Path) -> None:
    change(folder, lambda w: w | {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8)})
    load_model(folder)
    old = tiny_checkpoint(tmp_path / "gpt2", "gpt2")
    mask = torch.ones(1, 1, 512, 512)
    change(old, lambda w: w | {"transformer.h.0.attn.bias": mask, "transformer.h.0.attn.masked_bias": torch.zeros(1)})
    load_model(old)


def test_a_tied_head_is_not_missing(tmp_path: Path) -> None:
    load_model(tiny_checkpoint(tmp_path / "tied", "llama", tied=True))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_not_finite_is_named(value: float, folder: Path) -> None:
    def spoil(weights: Weights) -> Weights:
        weights["model.layers.1.mlp.up_proj.weight"][3, 5] = value
        return weights

    change(folder, spoil)
    with pytest.raises(SourceError, match=r"the weight model.layers.1.mlp.up_proj.weight holds numbers that are not"):
        load_model(folder)


def test_a_checkpoint_does_not_choose_the_kernels_of_a_trace(folder: Path) -> None:
    configure(folder, _attn_implementation="flash_attention_2")
    assert load_model(folder).config._attn_implementation == "sdpa"  # noqa: SLF001, it has no other name
