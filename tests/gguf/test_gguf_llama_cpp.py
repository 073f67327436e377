"""The tokenizers of the demo pair against llama.cpp's own, as `record_llama_cpp.py` recorded it."""

from __future__ import annotations

import json
import os
import unicodedata
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from tokenizers.pre_tokenizers import ByteLevel
from tricky_texts import texts

from nudge_onnx.export.gguf.metadata import Metadata, read_metadata
from nudge_onnx.export.gguf.tokenizer import build_tokenizer

RECORDED = json.loads(Path(__file__).with_name("llama_cpp_tokens.json").read_text(encoding="utf-8"))
RECORDS: list[dict[str, Any]] = RECORDED["records"]
STRIKE_END = "</s>"
"""HTML's end of strike-through, a user-defined token of Gemma. llama.cpp takes it for a control token by its look."""


def name_of(record: dict[str, Any]) -> str:
    return "-".join([record["file"].split("-")[0], *(str(value) for value in record["overrides"].values())])


@cache
def metadata_of(file: str) -> Metadata:
    path = Path(os.environ.get("NUDGE_REAL_MODELS", ".cache/models")) / file
    if not path.is_file():
        pytest.skip(f"{path} is not there; run `python demo/fetch.py {path.parent}`")
    return read_metadata(path)


@cache
def tokenizer_of(number: int) -> Tokenizer:
    record = RECORDS[number]
    metadata = metadata_of(record["file"])
    tokenizer, _ = build_tokenizer(replace(metadata, values={**metadata.values, **record["overrides"]}))
    # What parse_special=False is to llama.cpp: special tokens in a text are plain text.
    tokenizer.encode_special_tokens = True
    return tokenizer


def comparable(record: dict[str, Any], text: str) -> bool:
    if record["overrides"].get("tokenizer.ggml.pre") == "qwen2":
        return unicodedata.is_normalized("NFC", text)  # llama.cpp leaves the model's normalisation out
    return not (record["file"].startswith("gemma") and STRIKE_END in text)


def test_the_recorded_texts_are_the_tricky_ones() -> None:
    assert RECORDED["texts"] == texts()
    assert len(texts()) >= 400


@pytest.mark.real
@pytest.mark.parametrize("number", range(len(RECORDS)), ids=[name_of(record) for record in RECORDS])
def test_ids_equal_llama_cpp(number: int) -> None:
    record = RECORDS[number]
    tokenizer = tokenizer_of(number)
    pairs = [pair for pair in zip(RECORDED["texts"], record["ids"], strict=True) if comparable(record, pair[0])]
    assert len(pairs) > 400
    wrong = [text for text, ids in pairs if tokenizer.encode(text, add_special_tokens=False).ids != ids]
    assert wrong == []


@pytest.mark.real
@pytest.mark.parametrize("number", range(2), ids=[name_of(record) for record in RECORDS[:2]])
def test_decoding_gives_the_text_back(number: int) -> None:
    tokenizer = tokenizer_of(number)
    vocabulary = tokenizer.get_vocab()
    # SmolLM2's vocabulary lacks some bytes of rare characters, and Gemma's sign for a space is a space afterwards.
    lost = {sign for sign in ByteLevel.alphabet() if sign not in vocabulary} if number else set()
    signs = ByteLevel(add_prefix_space=False, use_regex=False)
    checked = 0
    for text in RECORDED["texts"]:
        if any(lost & set(piece) for piece, _ in signs.pre_tokenize_str(text)):
            continue
        decoded = tokenizer.decode(tokenizer.encode(text, add_special_tokens=False).ids, skip_special_tokens=False)
        assert decoded == (text if number else text.replace("▁", " "))
        checked += 1
    assert checked > 400


@pytest.mark.real
def test_gemma_keeps_its_strike_tag_whole() -> None:
    assert tokenizer_of(0).encode("<s>x</s>").tokens == ["<bos>", "<s>", "x", "</s>"]


@pytest.mark.real
def test_only_gemma_begins_with_bos() -> None:
    assert tokenizer_of(0).encode("x").tokens == ["<bos>", "x"]
    assert tokenizer_of(1).encode("x").tokens == ["x"]
