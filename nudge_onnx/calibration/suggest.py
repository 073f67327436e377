"""The gamma that gives a wanted share of nudging tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from .sweep import Setting

__all__ = ["for_budget", "for_ratio", "for_speed"]

_ENOUGH = 0.005
_MOST_TRIES = 4


def for_ratio(known: Sequence[Setting], wanted: float, measure: Callable[[float], Setting]) -> Setting:
    """The setting of one gate whose share of nudging tokens is nearest to `wanted`.

    `known` are settings of that gate. Between the two that enclose `wanted` gamma is tried in their proportion, a few
    times, by `measure`.
    """
    tried = sorted(known, key=lambda one: one.gamma)
    for _ in range(_MOST_TRIES):
        best = _nearest(tried, wanted)
        if abs(best.nudging_ratio - wanted) <= _ENOUGH:
            break
        around = [(low, high) for low, high in pairwise(tried) if low.nudging_ratio <= wanted <= high.nudging_ratio]
        if not around:
            break
        low, high = around[0]
        share = (wanted - low.nudging_ratio) / max(high.nudging_ratio - low.nudging_ratio, 1e-9)
        gamma = round(low.gamma + share * (high.gamma - low.gamma), 4)
        if gamma in (low.gamma, high.gamma):
            break
        tried = sorted([*tried, measure(gamma)], key=lambda one: one.gamma)
    return _nearest(tried, wanted)


def for_speed(known: Sequence[Setting], wanted: float) -> Setting | None:
    """Of the settings that make so many tokens per second, the one that nudges most; `None` if none does."""
    fast = [one for one in known if one.tokens_per_second >= wanted]
    return max(fast, key=lambda one: one.nudging_ratio, default=None)


def for_budget(known: Sequence[Setting], most: float) -> Setting | None:
    """Of the settings whose answers have at most so many nudging tokens on average, the one that has most of them."""
    cheap = [one for one in known if one.nudging_tokens <= most]
    return max(cheap, key=lambda one: one.nudging_tokens, default=None)


def _nearest(settings: Sequence[Setting], wanted: float) -> Setting:
    return min(settings, key=lambda one: abs(one.nudging_ratio - wanted))
