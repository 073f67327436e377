"""`NudgedLM.generate_batch`: many prompts, a few at a time."""

from __future__ import annotations

import threading

import pytest

from nudge_onnx import NudgedLM, NudgeError
from nudge_onnx.runtime.many import answers

PROMPTS = ["the cat", "", "a mat and dog", "old men " * 4, "so be it"] * 5


def test_answers_come_in_the_order_of_their_prompts(lm: NudgedLM) -> None:
    found = lm.generate_batch(PROMPTS, max_new_tokens=12)
    assert [answer.text for answer in found] == [lm.generate(p, max_new_tokens=12).text for p in PROMPTS]


def test_a_prompt_that_cannot_be_answered_is_an_error_of_its_own(lm: NudgedLM) -> None:
    found = lm.generate_batch(["the cat", [], "the cat " * 100_000, [{"role": "cook", "content": "a"}]])
    assert [answer.finish_reason == "error" for answer in found] == [False, True, True, True]
    assert "no message" in (found[1].error or "")
    assert "context" in (found[2].error or "")
    assert "role" in (found[3].error or "")


def test_an_option_that_is_wrong_is_wrong_for_all(lm: NudgedLM) -> None:
    with pytest.raises(NudgeError, match="gamma must be"):
        lm.generate_batch(["the cat"], gamma=2)
    lm.close()
    with pytest.raises(NudgeError, match="closed"):
        lm.generate_batch(["the cat"])


def test_no_prompts_have_no_answers(lm: NudgedLM) -> None:
    assert lm.generate_batch([]) == []


def test_no_more_are_begun_than_are_written_at_a_time(lm: NudgedLM) -> None:
    begun = []

    def begin() -> object:
        begun.append(threading.current_thread().name)
        return lm.stream("the cat", max_new_tokens=4)

    found = answers((begin for _ in range(9)), 3)  # type: ignore[misc]
    next(found)
    assert len(begun) < 9
    assert len(list(found)) == 8
    assert len(set(begun)) <= 3


def test_an_iterator_that_is_closed_cancels_what_is_on_its_way(lm: NudgedLM) -> None:
    lengths = iter([1, 400, 400, 400])
    found = answers((lambda: lm.stream("the cat", max_new_tokens=next(lengths), mode="base") for _ in range(4)), 2)
    next(found)
    found.close()
    assert lm.scheduler.at_work == 0
    assert lm.pool.lent == ()
