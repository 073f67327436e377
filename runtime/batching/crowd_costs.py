"""What passes cost a text that shares the machine with others."""

from __future__ import annotations

from collections.abc import Callable

from ..inference.costs import Costs

__all__ = ["CrowdCosts"]

# The part of all texts that a pass serves; the others wait for the other model.
_TAKE_PART = 0.6


class CrowdCosts:
    """What passes of one model cost, measured over all of its texts.

    Where rows of several texts share a pass, a row costs its share of that pass, and several rows of one text as many
    shares. So reading ahead pays alone and seldom in a crowd.
    """

    def __init__(self, least_rows: int, most_rows: int | None, crowd: Callable[[], int]) -> None:
        """`crowd` says how many texts may share a pass now."""
        self._alone = Costs(least_rows, most_rows)
        self._crowd = crowd

    def of(self, rows: int) -> float:
        """Seconds of `rows` rows of one text; 0 while nothing is known."""
        alone = self.alone(rows)
        return min(alone, rows * self.share) if self._crowd() > 1 else alone

    def alone(self, rows: int) -> float:
        """Seconds of a pass of `rows` rows; 0 while nothing is known."""
        return self._alone.of(rows)

    @property
    def share(self) -> float:
        """Seconds of a row's share of a pass over several texts; 0 while nothing is known."""
        texts = max(1, round(_TAKE_PART * self._crowd()))
        return self._alone.of(texts) / texts

    @property
    def row(self) -> float:
        """Seconds that one more row costs a pass of a few; 0 while nothing is known."""
        return max(0.0, (self._alone.of(8) - self._alone.of(2)) / 6)

    def add(self, rows: int, seconds: float) -> None:
        """Count a pass over rows of one text."""
        self._alone.add(rows, seconds)
