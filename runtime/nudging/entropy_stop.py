"""Ends a draft that is written ahead where too little promises that more of it is accepted."""

from __future__ import annotations

import math

__all__ = ["EntropyStop"]

# The scale of the entropy is AdaEDL's, and how the threshold moves is that of "Draft & Verify".
_SCALE = 0.2
_FIRST_THRESHOLD = 0.4
_WANTED_SHARE = 0.9
_STEP = 0.01
_OLD_SHARE, _OLD_THRESHOLD = 0.5, 0.9


class EntropyStop:
    """Where a draft that is written afresh ends: at a token of which too little promises that it is accepted.

    Of a draft model's entropy H in nats, 1 - sqrt(0.2 H) approximates a lower bound of that (Agrawal, Jeon, Lee,
    "AdaEDL", 2024, arXiv 2410.18351). The threshold follows the share of drafted tokens that were accepted, as in
    Zhang et al., "Draft & Verify", 2023 (arXiv 2309.08168).
    """

    def __init__(self) -> None:
        self.threshold = _FIRST_THRESHOLD
        self._share = _WANTED_SHARE
        self._left = self._hits = self._drafted = 0

    def stops(self, entropy: float | None) -> bool:
        """Whether a draft ends behind a token of this entropy."""
        return entropy is not None and 1 - math.sqrt(_SCALE * max(entropy, 0.0)) < self.threshold

    def drafted(self, count: int) -> None:
        """Note that so many tokens were drafted to be checked."""
        self._drafted = self._left = count
        self._hits = 0

    def saw(self, hit: bool) -> None:
        """Note whether the next one of them was accepted; behind one that was not they are worth nothing."""
        if not self._left:
            return
        self._hits += hit
        self._left = self._left - 1 if hit else 0
        if self._left:
            return
        self._share = _OLD_SHARE * self._share + (1 - _OLD_SHARE) * self._hits / self._drafted
        moved = self.threshold + (_STEP if self._share <= _WANTED_SHARE else -_STEP)
        self.threshold = _OLD_THRESHOLD * self.threshold + (1 - _OLD_THRESHOLD) * moved
