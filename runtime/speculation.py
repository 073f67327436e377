"""When and what to read ahead: decided by measured cost and acceptance, never with a say in the answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, TypeAlias

from .prefix import common_prefix

__all__ = ["CostModel", "Costs", "Habit", "Speculation", "SpeculationMode"]

SpeculationMode: TypeAlias = "int | Literal['auto', 'off']"
"""`off`, `auto`, or how many tokens to read ahead wherever there is a guess."""

_BUCKETS = (1, 2, 4, 8, 16)
_BUCKET_OF = [min(b for b in _BUCKETS if rows <= b) for rows in range(_BUCKETS[-1] + 1)]
# What a pass of so many rows costs beside one of one row before it was ever measured (int8 weights on a CPU).
_PRIOR = {1: 1.0, 2: 1.1, 4: 1.5, 8: 2.2, 16: 3.6}
_FORGET = 0.1
# Drafting ahead must promise this much before it is tried: a wrong promise costs time, a missed one does not.
_MARGIN = 0.9


class CostModel(Protocol):
    """What a pass costs."""

    def of(self, rows: int) -> float:
        """Seconds of a pass of `rows` rows; 0 while nothing is known."""


class Costs:
    """A running mean of the time of passes, by their number of rows.

    The smallest pass has `least_rows`. What has more than `most_rows` takes several passes.
    """

    def __init__(self, least_rows: int = 1, most_rows: int | None = None) -> None:
        self._least_rows = least_rows
        self._most_rows = most_rows
        self._seconds: dict[int, float] = {}

    def add(self, rows: int, seconds: float) -> None:
        """Count a pass; one of more rows than a draft has is a prefill and says nothing here."""
        if rows <= _BUCKETS[-1]:
            bucket = self._bucket(rows)
            known = self._seconds.get(bucket, seconds)
            # A pause of the machine is no cost of the pass.
            self._seconds[bucket] = known + _FORGET * (min(seconds, 3 * known) - known)

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
        return _BUCKET_OF[min(max(rows, self._least_rows), _BUCKETS[-1])]


class Habit:
    """What followed the last one or two tokens before: a guess for a second row, where that pays."""

    def __init__(self, costs: CostModel) -> None:
        self._costs = costs
        self._known: list[int] = []
        self._after: dict[tuple[int, ...], int] = {}
        self._hits = 0.5
        self._open: tuple[int, int] | None = None

    def learn(self, ids: Sequence[int]) -> None:
        """Take note of a text's ids, which may have changed behind any place since the last call."""
        kept = common_prefix(self._known, ids)
        del self._known[kept:]
        for token in ids[kept:]:
            self.add(token)

    def add(self, token: int) -> None:
        """Take note of the next id of the text."""
        known = self._known
        if self._open is not None and self._open[0] == len(known):
            self._hits += _FORGET * ((token == self._open[1]) - self._hits)
            self._open = None
        for order in (1, 2):
            if len(known) >= order:
                self._after[tuple(known[-order:])] = token
        known.append(token)

    def guess(self) -> Sequence[int]:
        """At most one id that may come next; none while guesses cost more than they save."""
        for order in (2, 1):
            known = self._after.get(tuple(self._known[-order:]))
            if known is not None:
                self._open = len(self._known), known
                pays = (1 + self._hits) * self._costs.of(1) >= self._costs.of(2)
                return (known,) if pays else ()
        return ()


class Speculation:
    """The policy of one answer; `drafts` says whether drafting afresh can pay at all."""

    def __init__(self, mode: SpeculationMode, base: CostModel, nudge: CostModel, drafts: bool = True) -> None:
        self._fixed = None if mode == "auto" else 0 if mode == "off" else int(mode)
        self._drafts = drafts
        self._base = base
        self._nudge = nudge
        self._hits = 0.5
        self._kept = 0.5
        self.checked = 0
        """Guessed tokens that the base model was asked about."""
        self.accepted = 0
        """Of these, the ones that it wrote itself."""

    @property
    def off(self) -> bool:
        """Whether nothing is to be read ahead."""
        return self._fixed == 0

    def saw(self, hit: bool, certain: bool) -> None:
        """Note whether the base model's next token was the guessed one, and whether it was certain of it."""
        self.checked += 1
        self.accepted += hit
        self._hits += _FORGET * (hit - self._hits)
        if not (hit and certain):
            # Where the base model hands over, the rest of a draft is what the nudging model goes on with.
            self._kept += _FORGET * ((not certain) - self._kept)

    def ahead(self, available: int) -> int:
        """How many of the `available` guessed tokens to read in the next pass of the base model."""
        if self._fixed is not None:
            return min(self._fixed, available)
        best, best_rate = 0, self._rate(0)
        for bucket in _BUCKETS[1:]:
            count = min(bucket - 1, available)
            rate = self._rate(count)
            # Before anything was measured all rates are zero, and the first guess is as good as free.
            if rate > best_rate or best == 0 == rate:
                best, best_rate = count, rate
            if count == available:
                break
        return best

    def draft_length(self) -> int:
        """How many tokens to draft afresh for the base model to check; 0 where that does not pay."""
        if not self._drafts:
            return 0
        if self._fixed is not None:
            return self._fixed
        plain = self._rate(0)
        best, best_rate = 0, plain / _MARGIN
        for bucket in _BUCKETS[1:]:
            count = bucket - 1
            rate = self._rate(count, drafted=True)
            if rate > best_rate:
                best, best_rate = count, rate
        return best

    def _rate(self, count: int, drafted: bool = False) -> float:
        """Tokens of the base model per second, expected of a pass that checks `count` guesses."""
        hits = self._hits
        accepted = count if hits == 1 else hits * (1 - hits**count) / (1 - hits)
        seconds = self._base.of(1 + count)
        if drafted:
            seconds += (count - self._kept * (count - accepted)) * self._nudge.of(1)
        return (1 + accepted) / seconds if seconds else 0.0
