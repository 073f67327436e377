"""What passes cost, by their number of rows: measured while they run."""

from __future__ import annotations

from typing import Protocol

__all__ = ["BUCKETS", "CostModel", "Costs"]

BUCKETS = (1, 2, 4, 8, 16)
"""Numbers of rows that are told apart; what lies between them counts as the next larger."""
_BUCKET_OF = [min(b for b in BUCKETS if rows <= b) for rows in range(BUCKETS[-1] + 1)]
# What a pass of so many rows costs beside one of one row before it was ever measured (int8 weights on a CPU).
_PRIOR = {1: 1.0, 2: 1.1, 4: 1.5, 8: 2.2, 16: 3.6}
_FORGET = 0.1
# A size that once seemed dear would not be used, and so not be measured, again.
_DOUBT = 0.05


class CostModel(Protocol):
    """What a pass costs."""

    def of(self, rows: int) -> float:
        """Seconds of a pass of `rows` rows; 0 while nothing is known."""

    def add(self, rows: int, seconds: float) -> None:
        """Count a pass."""


class Costs:
    """A running mean of the time of passes, by their number of rows.

    What a size is usually known to cost counts as a first measurement, and a mean above it goes down while other sizes
    are used. The smallest pass has `least_rows`. What has more than `most_rows` takes several passes.
    """

    def __init__(self, least_rows: int = 1, most_rows: int | None = None) -> None:
        self._least_rows = least_rows
        self._most_rows = most_rows
        self._seconds: dict[int, float] = {}
        self._counts = dict.fromkeys(BUCKETS, 0)

    def add(self, rows: int, seconds: float) -> None:
        """Count a pass; one of more rows than a draft has is a prefill and says nothing here."""
        if rows > BUCKETS[-1]:
            return
        bucket = self._bucket(rows)
        known = self.of(bucket) or seconds
        self._counts[bucket] += 1
        weight = max(_FORGET, 1 / (1 + self._counts[bucket]))
        # A pause of the machine is no cost of the pass.
        mean = known + weight * (min(seconds, 3 * known) - known)
        self._seconds[bucket] = mean
        for other in self._seconds.keys() - {bucket}:
            above = self._seconds[other] - mean * _PRIOR[other] / _PRIOR[bucket]
            self._seconds[other] -= _DOUBT * max(0.0, above)

    def of(self, rows: int) -> float:
        """Seconds of reading `rows` rows; 0 while nothing is known."""
        if self._most_rows is not None and rows > self._most_rows:
            return -(-rows // self._most_rows) * self.of(self._most_rows)
        bucket = self._bucket(rows)
        if bucket in self._seconds:
            return self._seconds[bucket]
        for other, seconds in self._seconds.items():
            return seconds * _PRIOR[bucket] / _PRIOR[other]
        return 0.0

    def _bucket(self, rows: int) -> int:
        return _BUCKET_OF[min(max(rows, self._least_rows), BUCKETS[-1])]
