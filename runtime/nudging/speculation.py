"""When and what to read ahead: decided by measured cost and acceptance, never with a say in the answer."""

from __future__ import annotations

from typing import TypeAlias

from nudge_onnx.choices import ReadAhead

from ..choosing.choosers import Choice
from ..inference.costs import BUCKETS, CostModel
from .entropy_stop import EntropyStop

__all__ = ["Speculation", "SpeculationMode"]

SpeculationMode: TypeAlias = int | ReadAhead
"""`off`, `auto`, `entropy`, or how many tokens to read ahead wherever there is a guess."""

_FORGET = 0.1
# Drafting ahead must promise this much before it is tried: a wrong promise costs time, a missed one does not.
_MARGIN = 0.9


class Speculation:
    """The policy of one answer; `drafts` says whether drafting afresh can pay at all."""

    def __init__(self, mode: SpeculationMode, base: CostModel, nudge: CostModel, drafts: bool = True) -> None:
        self._fixed = None if mode in ("auto", "entropy") else 0 if mode == "off" else int(mode)
        self._stop = EntropyStop() if mode == "entropy" else None
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
        if self._stop:
            self._stop.saw(hit)
        if not (hit and certain):
            # Where the base model hands over, the rest of a draft is what the nudging model goes on with.
            self._kept += _FORGET * ((not certain) - self._kept)

    def ahead(self, available: int) -> int:
        """How many of the `available` guessed tokens to read in the next pass of the base model."""
        if self._fixed is not None:
            return min(self._fixed, available)
        best, best_rate = 0, self._rate(0)
        for bucket in BUCKETS[1:]:
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
        if self._stop:
            return BUCKETS[-1] - 1
        plain = self._rate(0)
        best, best_rate = 0, plain / _MARGIN
        for bucket in BUCKETS[1:]:
            count = bucket - 1
            rate = self._rate(count, drafted=True)
            if rate > best_rate:
                best, best_rate = count, rate
        return best

    def stops(self, choice: Choice) -> bool:
        """Whether a draft that is written afresh ends behind this choice."""
        return self._stop is not None and self._stop.stops(choice.entropy)

    def drafted(self, count: int) -> None:
        """Note how many guesses a draft that was written afresh gave."""
        if self._stop:
            self._stop.drafted(count)

    def _rate(self, count: int, drafted: bool = False) -> float:
        """Tokens of the base model per second, expected of a pass that checks `count` guesses."""
        hits = self._hits
        accepted = count if hits == 1 else hits * (1 - hits**count) / (1 - hits)
        seconds = self._base.of(1 + count)
        if drafted:
            seconds += (count - self._kept * (count - accepted)) * self._nudge.of(1)
        return (1 + accepted) / seconds if seconds else 0.0
