from __future__ import annotations

import json
import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType
from tiny_checkpoints import CASES, random_model, write_gguf
from tiny_gguf import byte_level_values, write_llama
from transformers import AutoModelForCausalLM, AutoTokenizer

from nudge_onnx.bundle import sha256_of
from nudge_onnx.errors import SourceError
from nudge_onnx.export.gguf import to_checkpoint
from nudge_onnx.export.gguf.metadata import read_metadata

Q8_0, F32 = GGMLQuantizationType.Q8_0, GGMLQuantizationType.F32


def refusal(path: Path) -> str:
    with pytest.raises(SourceError) as caught:
        to_checkpoint(path, path.parent / "checkpoint")
    message = str(caught.value)
    assert "\n" not in message
    assert path.name in message
    assert not (path.parent / "checkpoint").exists()
    return message


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kind", [F32, Q8_0])
def test_weights_are_those_of_the_file(tmp_path: Path, kind: GGMLQuantizationType, tied: bool) -> None:
    weights = write_llama(tmp_path / "tiny.gguf", kind=kind, tied=tied)
    to_checkpoint(tmp_path / "tiny.gguf", tmp_path / "checkpoint")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "checkpoint")
    assert model.dtype == torch.float32
    assert model.config.tie_word_embeddings is tied
    loaded = {name: weight.detach().numpy() for name, weight in model.named_parameters()}
    assert loaded.keys() == weights.keys()
    for name, weight in weights.items():
        np.testing.assert_array_equal(loaded[name], weight, err_msg=name)


def test_folder_holds_what_from_pretrained_and_the_exporter_read(tmp_path: Path) -> None:
    write_llama(tmp_path / "tiny.gguf", kind=Q8_0)
    folder = tmp_path / "checkpoint"
    to_checkpoint(tmp_path / "tiny.gguf", folder)

    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.eos_token == "<|im_end|>"
    assert tokenizer.bos_token == "<|im_start|>"
    assert tokenizer.model_max_length == 128
    assert tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False) == "hi"
    assert tokenizer.convert_ids_to_tokens(tokenizer("the 12")["input_ids"]) == ["t", "he", "Ġ", "1", "2"]

    assert json.loads((folder / "generation_config.json").read_text())["eos_token_id"] == [2, 0]
    assert not (folder / "tokenizer.model").exists()
    assert json.loads((folder / "provenance.json").read_text()) == {
        "name": "Tiny",
        "finetune": None,
        "tags": [],
        "organization": None,
        "licence": "apache-2.0",
        "licence_link": None,
        "file": "tiny.gguf",
        "sha256": sha256_of(tmp_path / "tiny.gguf"),
        "quantization": "Q8_0",
        "base_models": [{"name": "Tiny base", "repo_url": None}],
    }


def test_file_without_a_chat_template_gives_a_folder_without_one(tmp_path: Path) -> None:
    write_llama(tmp_path / "tiny.gguf", byte_level_values(chat_template=None))
    to_checkpoint(tmp_path / "tiny.gguf", tmp_path / "checkpoint")
    assert not (tmp_path / "checkpoint" / "chat_template.jinja").exists()
    assert AutoTokenizer.from_pretrained(tmp_path / "checkpoint").chat_template is None


def test_missing_file_is_refused(tmp_path: Path) -> None:
    assert "cannot be read" in refusal(tmp_path / "none.gguf")


@pytest.mark.parametrize("content", [b"", b"GG", b"PK\x03\x04" + bytes(64)])
def test_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "other.gguf").write_bytes(content)
    assert "not a GGUF file" in refusal(tmp_path / "other.gguf")


@pytest.mark.parametrize("share", [0.00005, 0.001, 0.01, 0.03, 0.1, 0.5, 0.999])
def test_truncated_file_is_refused(tmp_path: Path, share: float) -> None:
    write_llama(tmp_path / "whole.gguf")
    content = (tmp_path / "whole.gguf").read_bytes()
    (tmp_path / "part.gguf").write_bytes(content[: int(len(content) * share)])
    assert "corrupt or truncated" in refusal(tmp_path / "part.gguf")


def test_damaged_head_is_read_or_refused_and_never_hangs(tmp_path: Path) -> None:
    write_llama(tmp_path / "whole.gguf")
    content = (tmp_path / "whole.gguf").read_bytes()
    draw = random.Random(7)
    refusals = []
    for _ in range(300):
        damaged = bytearray(content)
        for place in draw.sample(range(4, 3000), 3):
            damaged[place] = draw.randrange(256)
        (tmp_path / "damaged.gguf").write_bytes(damaged)
        try:
            read_metadata(tmp_path / "damaged.gguf")
        except SourceError as error:
            refusals.append(str(error))
    assert len(refusals) > 30
    assert not any("\n" in message for message in refusals)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"architecture": "rwkv7"}, "architecture 'rwkv7' is not supported"),
        ({"pre": "chameleon"}, "pre-tokenizer 'chameleon' is not supported"),
        ({"pre": None}, "names no pre-tokenizer"),
        ({"model": "bert"}, "tokenizer kind 'bert' is not supported"),
        ({"general__type": "adapter"}, "is of type 'adapter' and no model"),
        ({"llama__rope__scaling__type": "yarn"}, "llama.rope.scaling.type = yarn is not supported"),
        ({"llama__rope__scaling__type": "longrope"}, "longrope is supported in phi3 only"),
        ({"llama__rope__scaling__attn_factor": 1.2}, "llama.rope.scaling.attn_factor = 1.2"),
        ({"llama__rope__scaling__type": "a\nb"}, "llama.rope.scaling.type = a b is not supported"),
        ({"llama__rope__scaling__yarn_ext_factor": 1.0}, "llama.rope.scaling.yarn_ext_factor = 1.0"),
        ({"llama__rope__scaling__factor": -4.0}, "llama.rope.scaling.factor = -4.0 is not supported (it must be fin"),
        ({"llama__rope__freq_base": 0.0}, "llama.rope.freq_base = 0.0 is not supported (it must be above 0)"),
        ({"llama__rope__freq_base": math.nan}, "llama.rope.freq_base = nan is not supported (it must be finite"),
        ({"llama__attention__layer_norm_rms_epsilon": math.inf}, "layer_norm_rms_epsilon = inf is not supported"),
        ({"llama.odd\nkey": 1}, "'llama.odd\\nkey' is no name"),
        ({"llama__rope__dimension_count": 8}, "llama.rope.dimension_count = 8 is not supported (a head has 16"),
        ({"llama__attention__scale": 0.5}, "llama.attention.scale = 0.5 is not supported"),
        ({"llama__attention__value_length": 8}, "llama.attention.value_length = 8"),
        ({"llama__attention__causal": False}, "llama.attention.causal = False"),
        ({"llama__attention__head_count_kv": [2, 4]}, "it differs from layer to layer"),
        ({"llama__attention__head_count": 0}, "llama.attention.head_count = 0 is not supported"),
        ({"block_count": 2**31}, "llama.block_count = 2147483648 is not supported (the file holds 21 tensors)"),
        ({"embedding_length": 2**20, "llama__attention__key_length": 16}, "llama.embedding_length = 1048576"),
        ({"llama__expert_count": 8}, "llama.expert_count = 8"),
        ({"llama__logit_scale": 0.25}, "llama.logit_scale = 0.25"),
        ({"llama__something__new": 1}, "llama.something.new = 1 is not supported (it may change the model)"),
        ({"context_length": None}, "lacks llama.context_length"),
        ({"merges": ["q zz"]}, "'q zz'"),
        ({"eos_token_id": 5000}, "eos_token_id is 5000"),
        ({"eos_token_id": None, "eot_token_id": None}, "names no end token"),
        ({"tokenizer__ggml__add_bos_token": True, "bos_token_id": None}, "asks for a BOS token"),
        ({"token_type": [1, 1]}, "2 token types"),
        ({"tokens": [1, 2]}, "is no list of str"),
        ({"tokens": None}, "lacks tokenizer.ggml.tokens"),
        ({"context_length": "long"}, "llama.context_length is not of type int"),
        ({"split__count": 3, "split__no": 0}, "says that it is part 1 of 3"),
    ],
)
def test_what_cannot_be_rebuilt_is_refused_by_name(tmp_path: Path, changes: dict[str, object], expected: str) -> None:
    write_llama(tmp_path / "tiny.gguf", byte_level_values(**changes))
    assert expected in refusal(tmp_path / "tiny.gguf")


def test_missing_weight_is_refused(tmp_path: Path) -> None:
    write_llama(tmp_path / "tiny.gguf", without="blk.1.ffn_up.weight")
    assert "model.layers.1.mlp.up_proj.weight" in refusal(tmp_path / "tiny.gguf")


def test_weight_without_a_place_is_refused(tmp_path: Path) -> None:
    write_llama(tmp_path / "tiny.gguf", extra="blk.0.attn_q_norm.weight")
    assert "model.layers.0.self_attn.q_norm.weight, which its architecture has no place for" in refusal(
        tmp_path / "tiny.gguf"
    )


def test_weight_of_another_shape_is_refused(tmp_path: Path) -> None:
    write_llama(tmp_path / "tiny.gguf", byte_level_values(llama__feed_forward_length=128))
    assert "mlp.gate_proj.weight is of shape (96, 64), its metadata ask for (128, 64)" in refusal(
        tmp_path / "tiny.gguf"
    )


def test_rotary_factors_that_follow_no_rule_are_refused(tmp_path: Path) -> None:
    write_llama(
        tmp_path / "tiny.gguf", extra="rope_freqs.weight", extra_weights=[1.0, 5.0, 1.0, 3.0, 1.0, 1.0, 2.0, 8.0]
    )
    assert "do not follow Llama 3's rule" in refusal(tmp_path / "tiny.gguf")


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"rope.scaling.factor": 2.0}, "phi3.rope.scaling.factor = 2.0 is not supported (longrope has lists"),
        ({"rope.scaling.original_context_length": 1}, "original_context_length = 1 is not supported (longrope needs"),
        ({"rope.scaling.attn_factor": 2.0}, "phi3.rope.scaling.attn_factor = 2.0 is not supported (longrope has"),
    ],
)
def test_what_contradicts_lists_of_rotary_factors_is_refused(
    tmp_path: Path, keys: dict[str, object], expected: str
) -> None:
    architecture, changes, own = CASES["phi3-long"]
    case = (architecture, changes, own | keys)
    write_gguf(tmp_path / "tiny.gguf", random_model(case), case)
    assert expected in refusal(tmp_path / "tiny.gguf")


def test_rotary_factors_of_1_change_nothing(tmp_path: Path) -> None:
    write_llama(tmp_path / "tiny.gguf", extra="rope_freqs.weight")
    to_checkpoint(tmp_path / "tiny.gguf", tmp_path / "checkpoint")
    assert json.loads((tmp_path / "checkpoint" / "config.json").read_text())["rope_scaling"] is None


def test_biases_of_three_projections_stand_beside_none(tmp_path: Path) -> None:
    """Llama's configuration in transformers has attention biases for all four or for none."""
    values = byte_level_values()
    draw = np.random.default_rng(1)
    biases = {
        f"blk.{n}.attn_{part}.bias": draw.random(size)
        for n in range(2)
        for part, size in (("q", 64), ("k", 32), ("v", 32))
    }
    write_llama(tmp_path / "tiny.gguf", values, more={name: bias.astype(np.float32) for name, bias in biases.items()})
    to_checkpoint(tmp_path / "tiny.gguf", tmp_path / "checkpoint")
    attention = AutoModelForCausalLM.from_pretrained(tmp_path / "checkpoint").model.layers[1].self_attn
    np.testing.assert_allclose(attention.v_proj.bias.detach().numpy(), biases["blk.1.attn_v.bias"], rtol=1e-6)
    assert not attention.o_proj.bias.any()


@pytest.mark.parametrize("kind", [GGMLQuantizationType.BF16, GGMLQuantizationType.F16, GGMLQuantizationType.Q4_1])
def test_other_kinds_of_weights_are_read(tmp_path: Path, kind: GGMLQuantizationType) -> None:
    weights = write_llama(tmp_path / "tiny.gguf", kind=kind)
    to_checkpoint(tmp_path / "tiny.gguf", tmp_path / "checkpoint")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "checkpoint")
    for name, weight in model.named_parameters():
        np.testing.assert_array_equal(weight.detach().numpy(), weights[name], err_msg=name)


def test_a_kind_that_cannot_be_unpacked_is_refused_by_name(tmp_path: Path) -> None:
    write_llama(tmp_path / "tiny.gguf", more={"blk.0.attn_q.bias": np.zeros(64, dtype=np.int32)})
    assert "is of kind I32, which cannot be unpacked" in refusal(tmp_path / "tiny.gguf")


def test_an_id_of_minus_1_as_an_unsigned_number_names_no_token(tmp_path: Path) -> None:
    write_llama(tmp_path / "tiny.gguf", byte_level_values(tokenizer__ggml__padding_token_id=2**32 - 1))
    to_checkpoint(tmp_path / "tiny.gguf", tmp_path / "checkpoint")
    assert json.loads((tmp_path / "checkpoint" / "config.json").read_text()).get("pad_token_id") is None


def test_nan_is_refused(tmp_path: Path) -> None:
    write_llama(tmp_path / "tiny.gguf", spoil=True)
    assert "NaN or infinity in model.norm.weight" in refusal(tmp_path / "tiny.gguf")
