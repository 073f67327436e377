"""The longest common prefix, by which caches are kept and guesses are judged."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["common_prefix"]


def common_prefix(one: Sequence[object], other: Sequence[object]) -> int:
    """Length of the longest common prefix."""
    low, high = 0, min(len(one), len(other))
    if one[:high] == other[:high]:
        return high
    # Equal parts are halved: comparing two lists is many times as fast as comparing their elements one by one.
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
