"""The longest common prefix, by which caches are kept and guesses are judged."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

__all__ = ["common_prefix"]


def common_prefix(one: Sequence[int], other: Sequence[int]) -> int:
    """Length of the longest common prefix."""
    shorter = min(len(one), len(other))
    if one[:shorter] == other[:shorter]:
        return shorter
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
