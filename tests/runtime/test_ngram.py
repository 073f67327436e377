"""Guesses by what followed the last tokens before: made only where they pay, and judged by what comes."""

from __future__ import annotations

from nudge_onnx.runtime.inference.costs import Costs
from nudge_onnx.runtime.nudging.ngram import NGramGuesser


def costs(second: float) -> Costs:
    """A second row costs so much more than the first."""
    known = Costs()
    known.add(1, 1.0)
    known.add(2, 1.0 + second)
    return known


def test_what_followed_two_tokens_goes_before_what_followed_one():
    habit = NGramGuesser(costs(0.1))
    habit.learn([1, 2, 3, 9, 2, 4, 1, 2])
    assert habit.guess() == (3,)
    habit.learn([1, 2, 3, 9, 2, 4, 7, 2])
    assert habit.guess() == (4,)


def test_a_text_that_changed_is_taken_up_where_it_changed():
    habit = NGramGuesser(costs(0.1))
    habit.learn([1, 2, 3])
    habit.learn([1, 5, 6, 1])
    assert habit.guess() == (5,)
    habit.add(5)
    assert habit.guess() == (6,)
    assert not NGramGuesser(costs(0.1)).guess()


def test_guesses_that_fail_are_given_up_and_taken_up_again():
    habit = NGramGuesser(costs(0.4))
    habit.learn([1, 2])
    for number in range(10, 20):
        habit.add(1)
        habit.guess()
        habit.add(number)
    habit.add(1)
    assert habit.guess() == ()
    for _ in range(20):
        habit.add(19)
        habit.add(1)
        habit.guess()
    assert habit.guess() == (19,)
