"""Texts that are gone on with as they stand, and what a model finds of one that is there already."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from pairs import Pair

from nudge_onnx import ContextLengthError, NudgedLM, NudgeError, RawPrompt
from nudge_onnx.runtime.choosing.gates import Softmax
from nudge_onnx.runtime.choosing.logprobs import token_logprobs

TEXT = "Question: what is 12 + 30? Answer: 42. größer"


@pytest.fixture(scope="module")
def lm(tiny_word_pair: Pair) -> Iterator[NudgedLM]:
    with NudgedLM.load(tiny_word_pair.bundle) as loaded:
        yield loaded


def test_a_raw_text_is_read_behind_its_bos_alone(lm: NudgedLM) -> None:
    for role in ("base", "nudge"):
        tokenizer = lm.tokenizers[role]
        assert lm.raw_prompt(role, RawPrompt(TEXT)).ids == tokenizer.encode_prompt(TEXT, add_prefix=True)[0]


@pytest.mark.parametrize("mode", ["nudged", "base", "nudge"])
def test_ids_are_read_as_they_are(lm: NudgedLM, mode: Any) -> None:
    role = "nudge" if mode == "nudge" else "base"
    ids = lm.raw_prompt(role, RawPrompt(TEXT)).ids
    by_text = lm.generate(RawPrompt(TEXT), mode=mode, max_new_tokens=12)
    by_ids = lm.generate(RawPrompt(ids=ids), mode=mode, max_new_tokens=12)
    # A space behind the text may join with it, and not with ids.
    if not by_text.text.startswith(" "):
        assert by_ids.text == by_text.text
    assert lm.raw_prompt(role, RawPrompt(ids=ids[:5])).ids == ids[:5]
    # The letter by letter spelling is no other prompt, and stays what it is.
    spelt = [lm.tokenizers[role].encode(char)[0] for char in "cat"]
    assert lm.raw_prompt(role, RawPrompt(ids=spelt)).ids == spelt


def test_control_tokens_of_a_raw_text_follow_the_option(lm: NudgedLM) -> None:
    text = "<|im_start|>user\nHi<|im_end|>\n"
    special = lm.tokenizers["nudge"].special_ids
    allowed = lm.raw_prompt("nudge", RawPrompt(text)).ids
    escaped = lm.raw_prompt("nudge", RawPrompt(text), "escape").ids
    assert sum(token in special for token in allowed) > sum(token in special for token in escaped)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: RawPrompt(5), "must be a text"),  # type: ignore[arg-type]
        (lambda: RawPrompt("a", ids=[1]), "without a text"),
        (lambda: RawPrompt(ids="12"), "list of token ids"),  # type: ignore[arg-type]
        (lambda: RawPrompt(ids=[-1]), "a token id must be"),
        (lambda: RawPrompt(ids=[1.5]), "a token id must be"),  # type: ignore[list-item]
        (lambda: RawPrompt("\ud800"), "not Unicode"),
    ],
)
def test_what_is_no_prompt_is_refused(make: Any, says: str) -> None:
    with pytest.raises(NudgeError, match=says):
        make()


def test_prompts_that_models_cannot_read_are_refused(lm: NudgedLM) -> None:
    with pytest.raises(NudgeError, match="holds the token id 99999"):
        lm.stream(RawPrompt(ids=[1, 99_999]), mode="base")
    with pytest.raises(NudgeError, match="empty"):
        lm.stream(RawPrompt(ids=[]), mode="base")
    with pytest.raises(ContextLengthError):
        lm.stream(RawPrompt("word " * 5000))


@pytest.mark.parametrize("role", ["base", "nudge"])
def test_scores_are_those_of_the_logits(lm: NudgedLM, role: Any) -> None:
    ids = lm.raw_prompt(role, RawPrompt(TEXT)).ids
    found = lm.score(RawPrompt(ids=ids), role=role, top=2)
    assert found[0] is None
    assert [one.token_id for one in found[1:] if one] == ids[1:]
    for end in (1, 2, len(ids) - 1):
        written = lm.generate(RawPrompt(ids=ids[:end]), mode=role, max_new_tokens=1, logprobs=2)
        known = next((one for piece in written.pieces for one in piece.logprobs), None)
        if known is not None:
            assert found[end] is not None
            assert [token for token, _ in known.top] == [token for token, _ in found[end].top]  # type: ignore[union-attr]
            assert known.top[0][1] == pytest.approx(found[end].top[0][1], abs=1e-4)  # type: ignore[union-attr]


def test_scoring_leaves_answers_as_they_were(lm: NudgedLM) -> None:
    before = lm.generate("the cat", max_new_tokens=20)
    lm.score(RawPrompt(TEXT * 5))
    assert lm.generate("the cat", max_new_tokens=20).pieces == before.pieces
    with pytest.raises(NudgeError, match="role must be one of"):
        lm.score(RawPrompt(TEXT), role="both")
    with pytest.raises(NudgeError, match="prompt must be a RawPrompt"):
        lm.score(TEXT)  # type: ignore[arg-type]


def test_log_probabilities_of_a_row() -> None:
    logits = np.array([0.5, 3.0, -np.inf, 3.0, 1.0], np.float32)
    found = token_logprobs(Softmax(logits, "base"), 4, 3)
    p = np.exp(logits - 3.0)
    assert found.logprob == pytest.approx(np.log(p[4] / p.sum()), abs=1e-6)
    assert [token for token, _ in found.top] == [1, 3, 4]
    assert token_logprobs(Softmax(logits, "base"), 2, 0).logprob == -np.inf
    assert len(token_logprobs(Softmax(logits, "base"), 2, 9).top) == 5


def test_bias_names_the_same_text_in_both_models(lm: NudgedLM) -> None:
    first = lm.generate("the cat", mode="base", max_new_tokens=1).pieces[0].token_ids[0]
    banned = lm.generate("the cat", mode="base", max_new_tokens=8, logit_bias={first: -100})
    assert banned.pieces[0].token_ids[0] != first
    letter = lm.tokenizers["base"].encode("e")[0]
    nudged = lm.generate("the cat", max_new_tokens=30, logit_bias={letter: -100})
    for piece in nudged.pieces:
        written = [lm.tokenizers[piece.source].bytes_of(token) for token in piece.token_ids]
        assert b"e" not in written
    end = lm.bundle.manifest.models["base"].end_token_ids[0]
    whole = lm.generate("the cat", max_new_tokens=30, logit_bias={end: -100})
    assert whole.finish_reason in ("length", "repetition")
    own = {lm.tokenizers["base"].bytes_of(token): token for token in range(lm.tokenizers["base"].size)}
    other = {lm.tokenizers["nudge"].bytes_of(token) for token in range(lm.tokenizers["nudge"].size)}
    alone = next(token for written, token in own.items() if written not in other)
    with pytest.raises(NudgeError, match="the other model has no token of its own for"):
        lm.stream("the cat", logit_bias={alone: 1})
    lm.stream("the cat", mode="base", logit_bias={alone: 1})
    for bad in ({-1: 1}, {1: 101}, {"1": 1}, [1]):
        with pytest.raises(NudgeError):
            lm.stream("the cat", logit_bias=bad)  # type: ignore[arg-type]
