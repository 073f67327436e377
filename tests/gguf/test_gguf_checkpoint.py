from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType
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
        ({"pre": "default"}, "pre-tokenizer 'default' is not supported"),
        ({"pre": None}, "pre-tokenizer '(none)' is not supported"),
        ({"model": "bert"}, "tokenizer kind 'bert' is not supported"),
        ({"llama__rope__scaling__type": "yarn"}, "scaled rotary embedding"),
        ({"merges": ["q zz"]}, "'q zz'"),
        ({"eos_token_id": 5000}, "eos_token_id is 5000"),
        ({"eos_token_id": None, "eot_token_id": None}, "names no end token"),
        ({"tokenizer__ggml__add_bos_token": True, "bos_token_id": None}, "asks for a BOS token"),
        ({"token_type": [1, 1]}, "2 token types"),
        ({"tokens": [1, 2]}, "is no list of str"),
        ({"tokens": None}, "lacks tokenizer.ggml.tokens"),
        ({"context_length": "long"}, "llama.context_length is not of type int"),
        ({"split__count": 3}, "one of 3 shards"),
    ],
)
def test_what_cannot_be_rebuilt_is_refused_by_name(tmp_path: Path, changes: dict[str, object], expected: str) -> None:
    write_llama(tmp_path / "tiny.gguf", byte_level_values(**changes))
    assert expected in refusal(tmp_path / "tiny.gguf")


def test_missing_weight_is_refused(tmp_path: Path) -> None:
    write_llama(tmp_path / "tiny.gguf", without="blk.1.ffn_up.weight")
    assert "model.layers.1.mlp.up_proj.weight" in refusal(tmp_path / "tiny.gguf")


def test_weight_without_a_place_is_refused(tmp_path: Path) -> None:
    write_llama(tmp_path / "tiny.gguf", extra="blk.0.attn_q.bias")
    assert "is not a plain model" in refusal(tmp_path / "tiny.gguf")


def test_rotary_factors_are_refused(tmp_path: Path) -> None:
    write_llama(tmp_path / "tiny.gguf", extra="rope_freqs.weight")
    assert "scaled rotary embedding" in refusal(tmp_path / "tiny.gguf")


def test_nan_is_refused(tmp_path: Path) -> None:
    write_llama(tmp_path / "tiny.gguf", spoil=True)
    assert "NaN or infinity in model.norm.weight" in refusal(tmp_path / "tiny.gguf")
