"""Tokenizers that mark the start of a string: an answer is inside one, and is fed as it was written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pairs import IM_END, WORDS, byte_level, sentencepiece
from tokenizers import Tokenizer as Trained
from tokenizers import normalizers, pre_tokenizers

from nudge_onnx.runtime.nudging.draft import Draft, word_hand_overs
from nudge_onnx.runtime.nudging.transcript import Transcript
from nudge_onnx.runtime.text.prompt import PromptIds
from nudge_onnx.runtime.text.tokenizer import Tokenizer

VOCABULARY = [*(f" {word}" for word in WORDS), *WORDS, "  ", "   ", "xy"]


def prepended() -> Trained:
    """As in Llama 2 and Phi 3."""
    tokenizer = sentencepiece(VOCABULARY)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    return tokenizer


def metaspace() -> Trained:
    tokenizer = sentencepiece(VOCABULARY)
    tokenizer.normalizer = None
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="always", split=False)
    return tokenizer


def prefix_space() -> Trained:
    tokenizer = byte_level(VOCABULARY)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    return tokenizer


def unmarked() -> Trained:
    return sentencepiece(VOCABULARY)


MARKING = (prepended, metaspace, prefix_space)
KINDS = (*MARKING, unmarked, lambda: byte_level(VOCABULARY))


def saved(make: Callable[[], Trained], folder: Path) -> Tokenizer:
    make().save(str(folder / "tokenizer.json"))
    return Tokenizer(folder / "tokenizer.json")


def written(tokenizer: Tokenizer, ids: list[int]) -> str:
    return b"".join(map(tokenizer.bytes_of, ids)).decode()


@pytest.mark.parametrize("make", KINDS)
def test_only_tokenizers_that_mark_have_a_lead(make: Callable[[], Trained], tmp_path: Path) -> None:
    tokenizer = saved(make, tmp_path)
    assert bool(tokenizer.lead) == (make in MARKING)
    for text in ("", "the cat", " the cat", "  the", "\nthe cat", "xy   ", "é"):
        assert written(tokenizer, tokenizer.encode_inside(text)) == text


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize("prompt", [f"the cat{IM_END}", f"{IM_END}", ""])
@pytest.mark.parametrize("words", [[" the", " cat", " sat"], ["the", " cat"], ["  ", " cat"], ["xy", "   "]])
def test_an_answer_behind_a_special_token_is_fed_as_it_was_written(
    make: Callable[[], Trained], prompt: str, words: list[str], tmp_path: Path
) -> None:
    tokenizer = saved(make, tmp_path)
    ids = PromptIds(tokenizer, prompt, add_prefix=False)
    wrote = [token for word in words for token in tokenizer.encode_inside(word)]
    answer = written(tokenizer, wrote)
    assert written(tokenizer, ids.encode(answer)[len(ids.ids) :]) == answer == "".join(words)
    assert ids.encode(answer)[: len(ids.ids)] == ids.ids
    if not any(token not in WORDS for token in "".join(words).split(" ") if token):
        assert ids.encode(answer)[len(ids.ids) :] == wrote


@pytest.mark.parametrize("make", KINDS)
def test_a_draft_that_is_cut_inside_a_token_writes_its_text_whatever_the_limit(
    make: Callable[[], Trained], tmp_path: Path
) -> None:
    tokenizer = saved(make, tmp_path)
    ids = (*tokenizer.encode_inside("xy"), *tokenizer.encode_inside("    "), *tokenizer.encode_inside("z"))
    draft = Draft(ids, (0.5,) * len(ids), False, tokenizer)
    cut = word_hand_overs(draft)[0]
    spelled, top1, text = draft.up_to(cut)
    assert (text, written(tokenizer, list(spelled))) == ("xy   ", "xy   ")
    assert len(top1) == len(spelled)
    for limit in range(1, len(spelled) + 2):
        piece = Transcript(limit).append("nudge", spelled, top1, text, tokenizer.bytes_of)
        assert piece.text == written(tokenizer, list(piece.token_ids))
        assert text.startswith(piece.text)
        assert len(piece.token_ids) == min(limit, len(spelled))


def test_a_limit_cuts_a_text_that_was_normalised_without_writing_another(tmp_path: Path) -> None:
    def lower() -> Trained:
        tokenizer = sentencepiece(VOCABULARY)
        tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), normalizers.Replace(" ", "▁")])
        return tokenizer

    tokenizer = saved(lower, tmp_path)
    ids = tokenizer.encode_inside("The Cat")
    for limit in range(1, len(ids) + 1):
        text = Transcript(limit).append("nudge", ids, [None] * len(ids), "The Cat", tokenizer.bytes_of).text
        assert "The Cat".startswith(text)


@pytest.mark.parametrize("make", MARKING)
def test_a_draft_is_guessed_as_the_other_model_would_go_on(make: Callable[[], Trained], tmp_path: Path) -> None:
    tokenizer = saved(make, tmp_path)
    assert tokenizer.encode_inside(" cat") == tokenizer.encode("the cat")[len(tokenizer.encode("the")) :]
