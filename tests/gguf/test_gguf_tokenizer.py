"""The tokenizers rebuilt from hand-made metadata, without a model."""

from __future__ import annotations

import unicodedata
from itertools import pairwise
from typing import Any

import pytest
from gguf import TokenType
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_gguf import byte_level_values
from tokenizers import Tokenizer

from nudge_onnx.errors import SourceError
from nudge_onnx.export.gguf.metadata import Metadata
from nudge_onnx.export.gguf.tokenizer import build_tokenizer

NORMAL, CONTROL, USER, BYTE = TokenType.NORMAL, TokenType.CONTROL, TokenType.USER_DEFINED, TokenType.BYTE


def built(values: dict[str, Any]) -> Tokenizer:
    return build_tokenizer(Metadata("tiny.gguf", values, {}))[0]


def scored(tokens: dict[str, float], **keys: Any) -> dict[str, Any]:
    """Metadata of a SentencePiece BPE with these tokens and their scores, and one per byte."""
    table: list[tuple[str, float, int]] = [
        ("<unk>", 0.0, TokenType.UNKNOWN),
        ("<s>", 0.0, CONTROL),
        ("</s>", 0.0, CONTROL),
    ]
    table += [("  ", 0.0, USER), ("<b>", 0.0, USER)]
    table += [(f"<0x{byte:02X}>", 0.0, BYTE) for byte in range(256)]
    table += [(token, score, NORMAL) for token, score in tokens.items()]
    ggml = {
        "model": "llama",
        "tokens": [token for token, _, _ in table],
        "scores": [score for _, score, _ in table],
        "token_type": [kind for _, _, kind in table],
        "unknown_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "add_space_prefix": False,
    }
    return {f"tokenizer.ggml.{key}": value for key, value in (ggml | keys).items()}


def pieces(tokenizer: Tokenizer, text: str) -> list[str]:
    return list(tokenizer.encode(text, add_special_tokens=False).tokens)


LETTERS = {letter: -100.0 - n for n, letter in enumerate("▁abc")}


def test_the_better_score_merges_first() -> None:
    assert pieces(built(scored(LETTERS | {"ab": -2.0, "bc": -1.0})), "abc") == ["a", "bc"]
    assert pieces(built(scored(LETTERS | {"ab": -1.0, "bc": -2.0})), "abc") == ["ab", "c"]


def test_user_defined_tokens_are_taken_out_first_longest_match() -> None:
    tokenizer = built(scored(LETTERS | {"▁a": -1.0}))
    assert pieces(tokenizer, "a   a<b>b") == ["a", "  ", "▁a", "<b>", "b"]


def test_a_character_outside_the_vocabulary_becomes_its_bytes_and_comes_back() -> None:
    tokenizer = built(scored(LETTERS))
    assert pieces(tokenizer, "aé") == ["a", "<0xC3>", "<0xA9>"]
    text = "a é  😀\n<b> b"
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False).ids) == text


@pytest.mark.parametrize(("architecture", "strips"), [("phi3", True), ("llama", False)])
def test_phi_3_s_tokens_take_the_space_behind_them(architecture: str, strips: bool) -> None:
    tokenizer = built(scored(LETTERS) | {"general.architecture": architecture})
    ids = tokenizer.encode("<b> \n a<s> a", add_special_tokens=False).ids
    tokens = [tokenizer.id_to_token(index) for index in ids]
    assert tokens == ["<b>", *([] if strips else ["▁", "<0x0A>", "▁"]), "a", "<s>", "▁", "a"]


def test_control_tokens_are_plain_text_on_request() -> None:
    tokenizer = built(scored(LETTERS | {"<": -200.0, "s": -201.0, ">": -202.0}))
    assert pieces(tokenizer, "<s>") == ["<s>"]
    tokenizer.encode_special_tokens = True
    assert pieces(tokenizer, "<s>") == ["<", "s", ">"]


def test_space_prefix_is_added_and_taken_away() -> None:
    tokenizer = built(scored(LETTERS, add_space_prefix=True))
    assert pieces(tokenizer, "a b") == ["▁", "a", "▁", "b"]
    assert tokenizer.decode(tokenizer.encode("a b", add_special_tokens=False).ids) == "a b"


@pytest.mark.parametrize(("said", "begins"), [(None, True), (True, True), (False, False)])
def test_sentencepiece_begins_with_bos_unless_the_file_says_no(said: bool | None, begins: bool) -> None:
    keys = {} if said is None else {"add_bos_token": said}
    tokens = built(scored(LETTERS, **keys)).encode("a").tokens
    assert tokens == (["<s>", "a"] if begins else ["a"])


def test_incomplete_vocabularies_are_refused() -> None:
    with pytest.raises(SourceError, match="scores"):
        built(scored(LETTERS, scores=[1.0]))
    without_bytes = scored(LETTERS, unknown_token_id=-1)
    types = without_bytes["tokenizer.ggml.token_type"]
    without_bytes["tokenizer.ggml.token_type"] = [TokenType.UNUSED if kind == BYTE else kind for kind in types]
    with pytest.raises(SourceError, match="neither 256 byte tokens nor an unknown token"):
        built(without_bytes)


def best_pair_first(text: str, scores: dict[str, float]) -> list[str]:
    """SentencePiece's rule as llama.cpp states it: join the neighbours that spell the best token, leftmost first."""
    symbols = list(text)
    while True:
        joined = [(-scores[a + b], at) for at, (a, b) in enumerate(pairwise(symbols)) if a + b in scores]
        if not joined:
            return symbols
        _, at = min(joined)
        symbols[at : at + 2] = [symbols[at] + symbols[at + 1]]


# No letter twice in a token: where "aa" + "a" and "a" + "aa" both spell a token a merge list can't say "leftmost".
TOKENS = st.lists(
    st.permutations("abcd").flatmap(lambda p: st.integers(2, 4).map(lambda n: "".join(p[:n]))), unique=True
)


@settings(max_examples=150, deadline=None)
@given(tokens=TOKENS, text=st.text("abcd", max_size=30))
def test_merges_from_scores_follow_the_rule(tokens: list[str], text: str) -> None:
    scores = dict.fromkeys("abcd", -100.0) | {token: -float(rank) for rank, token in enumerate(tokens)}
    assert pieces(built(scored(scores)), text) == best_pair_first(text, scores)


@pytest.mark.parametrize(
    ("pre", "expected"),
    [
        ("gpt-2", ["12", "12", "3", "Ġthe", "Ċ", "Ċ", "x"]),
        ("smollm", ["1", "2", "1", "2", "3", "Ġthe", "Ċ", "Ċ", "x"]),
        ("llama-bpe", ["12", "1", "2", "3", "Ġthe", "ĊĊ", "x"]),
        ("qwen2", ["1", "2", "1", "2", "3", "Ġthe", "ĊĊ", "x"]),
    ],
)
def test_each_pre_tokenizer_splits_in_its_own_way(pre: str, expected: list[str]) -> None:
    assert pieces(built(byte_level_values(pre=pre)), "12123 the\n\nx") == expected


def test_llama_3_begins_with_bos_by_default_and_others_do_not() -> None:
    assert built(byte_level_values(pre="llama-bpe")).encode("x").tokens == ["<|im_start|>", "x"]
    assert built(byte_level_values(pre="smollm")).encode("x").tokens == ["x"]
    assert built(byte_level_values(pre="llama-bpe", tokenizer__ggml__add_bos_token=False)).encode("x").tokens == ["x"]


def test_qwen_normalises_to_nfc() -> None:
    tokenizer = built(byte_level_values(pre="qwen2"))
    assert pieces(tokenizer, "e\u0301") == pieces(tokenizer, unicodedata.normalize("NFC", "e\u0301"))


@settings(max_examples=150, deadline=None)
@given(text=st.text(max_size=40))
@pytest.mark.parametrize("pre", ["gpt-2", "smollm", "llama-bpe"])
def test_byte_level_decoding_gives_the_text_back(pre: str, text: str) -> None:
    tokenizer = built(byte_level_values(pre=pre))
    tokenizer.encode_special_tokens = True
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False).ids, skip_special_tokens=False) == text
