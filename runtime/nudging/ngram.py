"""Guesses by the last tokens: what followed them before is likely to follow them again."""

from __future__ import annotations

from collections.abc import Sequence

from ..inference.costs import CostModel
from ..text.prefix import common_prefix

__all__ = ["NGramGuesser"]

_FORGET = 0.1


class NGramGuesser:
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
