"""Every pre-tokenizer against llama.cpp's, on a vocabulary whose merges know no bounds of words."""

from __future__ import annotations

import json
import unicodedata
import zlib
from pathlib import Path
from typing import Any

import pytest
from gguf import TokenType
from tokenizers import Tokenizer
from tricky_texts import texts

from nudge_onnx.export.gguf.metadata import Metadata
from nudge_onnx.export.gguf.pre_tokenizers import PRE_TOKENIZERS
from nudge_onnx.export.gguf.tokenizer import build_tokenizer

RECORDED: dict[str, Any] = json.loads(Path(__file__).with_name("llama_cpp_pieces.json").read_text(encoding="utf-8"))
EAST_FROM_LISTS = ("deepseek-coder", "deepseek-llm")
CASES_BY_CLASS = ("tekken", "gpt-4o")


def built(pre: str, **changes: Any) -> Tokenizer:
    types = [TokenType.CONTROL] + [TokenType.NORMAL] * (len(RECORDED["tokens"]) - 1)
    ggml = {
        "model": "gpt2",
        "pre": pre,
        "tokens": RECORDED["tokens"],
        "token_type": types,
        "merges": RECORDED["merges"],
        "bos_token_id": 0,
        "eos_token_id": 0,
    }
    metadata = Metadata("tiny.gguf", {f"tokenizer.ggml.{key}": value for key, value in (ggml | changes).items()}, {})
    tokenizer, _ = build_tokenizer(metadata)
    tokenizer.encode_special_tokens = True
    return tokenizer


def comparable(pre: str, text: str) -> bool:
    """Whether llama.cpp follows the model's own rule on this text."""
    if PRE_TOKENIZERS[pre].nfc and not unicodedata.is_normalized("NFC", text):
        return False
    if pre in EAST_FROM_LISTS and "\u3000" in text:
        return False  # it takes every space outside ASCII for a vertical tab
    # It takes every letter outside a to z for a capital, those outside A to Z for small ones, and marks for neither.
    kinds = {unicodedata.category(letter) for letter in text if not letter.isascii()}
    return pre not in CASES_BY_CLASS or not kinds & {"Lu", "Ll", "Lt", "Mn", "Mc", "Me"}


def test_every_rule_is_recorded() -> None:
    assert RECORDED["checksums"].keys() == PRE_TOKENIZERS.keys()


@pytest.mark.parametrize("pre", PRE_TOKENIZERS)
def test_ids_equal_llama_cpp(pre: str) -> None:
    tokenizer = built(pre)
    sums = RECORDED["checksums"][pre].split()
    pairs = [pair for pair in zip(texts(), sums, strict=True) if comparable(pre, pair[0])]
    assert len(pairs) > 250
    wrong = []
    for text, expected in pairs:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        if f"{zlib.crc32(json.dumps(ids).encode()):08x}" != expected:
            wrong.append((text, tokenizer.encode(text, add_special_tokens=False).tokens))
    assert wrong == []


def test_rules_differ_where_their_names_do() -> None:
    """Else the checks above would say little."""
    same = [
        {pre for pre in PRE_TOKENIZERS if RECORDED["checksums"][pre] == sums} for sums in RECORDED["checksums"].values()
    ]
    assert {"gpt-2", "olmo", "mpt", "phi-2"} in same
    assert {"qwen2", "deepseek-r1-qwen"} in same
    assert {"llama-bpe", "llama3", "llama-v3"} in same
    assert len({frozenset(names) for names in same}) == 12


@pytest.mark.parametrize("pre", CASES_BY_CLASS)
def test_capitals_of_every_alphabet_begin_a_word(pre: str) -> None:
    pieces = PRE_TOKENIZERS[pre].split().pre_tokenize_str("ПриветМир éÀb e\u0301X")
    assert [span for _, span in pieces] == [(0, 6), (6, 9), (9, 11), (11, 13), (13, 16), (16, 17)]
