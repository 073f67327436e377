"""Alternating rounds, medians and ratios: how every comparison here is made.

Machines drift, so engines take turns within each round, and a ratio is the median over rounds of the ratio of
neighbours, not the ratio of two medians. The order turns with each round, so that nobody is always first.
"""

from __future__ import annotations

import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Samples = dict[str, list[float]]
"""One number a round, by title."""


def alternate(
    titles: Sequence[str], rounds: int, what: str, measure: Callable[[str], float], *, warm_up: bool = True
) -> Samples:
    """`measure` of each title in each round; a round before them, which is not kept, warms up."""
    samples: Samples = defaultdict(list)
    for number in range(0 if warm_up else 1, rounds + 1):
        for title in turned(titles, number):
            value = measure(title)
            if number:
                samples[title].append(value)
        print(f"{what}: " + (f"round {number} of {rounds}" if number else "warmed up"), file=sys.stderr)
    return {title: samples[title] for title in titles}


def turned(titles: Sequence[str], number: int) -> list[str]:
    """The titles, begun with another one each round."""
    start = number % len(titles) if titles else 0
    return [*titles[start:], *titles[:start]]


@dataclass(frozen=True)
class Ratio:
    """How many times as fast (or small) the first of two is: above 1 it wins."""

    title: str
    median: float
    low: float
    high: float
    goal: float | None = None


def ratio(samples: Samples, ours: str, theirs: str, goal: float | None = None) -> Ratio:
    """The ratio of a cost (seconds, bytes), theirs over ours, pair by pair."""
    # Who is too slow for every round took part in the first ones.
    pairs = [their / our for our, their in zip(samples[ours], samples[theirs], strict=False)]
    return Ratio(f"{ours} over {theirs}", statistics.median(pairs), min(pairs), max(pairs), goal)
