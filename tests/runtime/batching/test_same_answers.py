"""An answer does not depend on what else is being answered: not its ids, its probabilities, nor its pieces."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nudge_onnx import Answer, NudgedLM
from nudge_onnx.runtime.choosing.gates import Softmax
from nudge_onnx.runtime.choosing.sampling import Sampling

TEXT = "the cat sat on a mat and dog ran to town with old men for an hour in no time at all so be it"
WORDS = TEXT.split()
SECONDS = 120


@pytest.fixture(scope="module")
def lm(bundle: Path) -> Iterator[NudgedLM]:
    with NudgedLM.load(bundle, threads=1) as loaded:
        if not all(loaded.batches.values()):
            pytest.skip("no two texts share passes on this processor")
        yield loaded


@pytest.fixture(scope="module")
def alone(bundle: Path) -> Iterator[NudgedLM]:
    with NudgedLM.load(bundle, threads=1, slots=1) as loaded:
        yield loaded


PROMPT = st.lists(st.sampled_from(WORDS), min_size=1, max_size=40).map(" ".join)
OPTIONS = st.fixed_dictionaries(
    {
        "max_new_tokens": st.integers(1, 30),
        "gamma": st.sampled_from([0.0, 0.3, 0.5, 0.9]),
        "speculation": st.sampled_from(["auto", "off", 3]),
        "mode": st.sampled_from(["nudged", "nudged", "base", "nudge"]),
        "draft_tokens": st.sampled_from([4, 16]),
        "gate": st.sampled_from(["top1", "margin"]),
        "sampling": st.sampled_from([Sampling(), Sampling(temperature=1.0, seed=3)]),
    }
)
TEXTS = st.lists(st.tuples(PROMPT, OPTIONS), min_size=2, max_size=8)


def said(answer: Answer) -> Any:
    return answer.text, answer.finish_reason, [(p.text, p.source, p.token_ids, p.top1) for p in answer.pieces]


def at_once(lm: NudgedLM, texts: list[tuple[str, dict[str, Any]]], spoil: dict[int, int]) -> list[Answer | None]:
    """The answers of as many threads; those of `spoil` are closed behind so many pieces, and are none."""
    found: list[Answer | None] = [None] * len(texts)
    begin = threading.Barrier(len(texts))

    def write(number: int) -> None:
        prompt, options = texts[number]
        begin.wait(SECONDS)
        with lm.stream(prompt, **options) as stream:
            for count, _ in enumerate(stream, 1):
                if count == spoil.get(number):
                    return
            if number not in spoil:
                found[number] = stream.answer

    threads = [threading.Thread(target=write, args=(number,)) for number in range(len(texts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
        assert not thread.is_alive()
    return found


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=TEXTS, spoil=st.dictionaries(st.integers(0, 7), st.integers(1, 3), max_size=3))
def test_an_answer_is_the_same_alone_and_among_others(
    lm: NudgedLM, alone: NudgedLM, texts: list[tuple[str, dict[str, Any]]], spoil: dict[int, int]
) -> None:
    for answer, (prompt, options) in zip(at_once(lm, texts, spoil), texts, strict=True):
        if answer is not None:
            assert said(answer) == said(alone.generate(prompt, **options))


def test_texts_did_share_passes(lm: NudgedLM) -> None:
    before = lm.scheduler.passes, lm.scheduler.shared_rows
    texts = [(" ".join(WORDS[number:]), {"max_new_tokens": 40, "mode": "base"}) for number in range(6)]
    assert None not in at_once(lm, texts, {})
    passes, rows = lm.scheduler.passes - before[0], lm.scheduler.shared_rows - before[1]
    assert rows > 1.5 * passes > 0


def test_a_text_that_fails_costs_no_other_one_a_bit(lm: NudgedLM, alone: NudgedLM) -> None:
    class BrokenError(Exception):
        pass

    def gate(_softmax: Softmax, _gamma: float) -> bool:
        calls.append(1)
        raise BrokenError

    calls: list[int] = []
    good = [("the cat sat on", {"max_new_tokens": 30}), ("a mat and dog", {"max_new_tokens": 30})]
    failed = []

    def fail() -> None:
        with contextlib.suppress(BrokenError):
            lm.generate("old men", gate=gate, max_new_tokens=30)
        failed.append(len(calls))

    thread = threading.Thread(target=fail)
    thread.start()
    answers = at_once(lm, good, {})
    thread.join(SECONDS)
    assert failed == [1]
    for answer, (prompt, options) in zip(answers, good, strict=True):
        assert answer is not None
        assert said(answer) == said(alone.generate(prompt, **options))


@pytest.mark.parametrize(
    "lengths", [(1, 150), (120, 170, 20), (52, 51, 50, 49), (1, 9, 4)], ids=["far", "long", "alike", "short"]
)
def test_caches_of_any_length_go_together(lm: NudgedLM, alone: NudgedLM, lengths: tuple[int, ...]) -> None:
    texts = [
        (" ".join(WORDS[(seed + at) % len(WORDS)] for at in range(length)), {"max_new_tokens": 24})
        for seed, length in enumerate(lengths)
    ]
    for answer, (prompt, options) in zip(at_once(lm, texts, {}), texts, strict=True):
        assert answer is not None
        assert said(answer) == said(alone.generate(prompt, **options))


def test_a_shorter_prompt_finds_what_a_longer_one_left_and_has_its_own_bits(lm: NudgedLM, alone: NudgedLM) -> None:
    words = [WORDS[at % len(WORDS)] for at in range(170)]
    for length in (170, 60, 150, 40, 100, 20):
        prompt = " ".join(words[:length])
        alone.pool.clear()
        assert said(lm.generate(prompt, max_new_tokens=8)) == said(alone.generate(prompt, max_new_tokens=8)), length
