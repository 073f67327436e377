"""Sampling by shared noise: a token is the arg-max of log-probability plus Gumbel noise.

The noise of a position depends on the seed and the position alone, so a token does not depend on how many rows were
read at once. Two models with one vocabulary that draw with the same noise tend to draw the same token, which is what
lets a draft be checked ahead of the base model while every token keeps exactly the base model's distribution
(the Gumbel coupling of Daliri, Musco, Suresh, "Coupling without Communication and Drafter-Invariant Speculative
Decoding", 2024; it replaces the accept-or-resample step of Leviathan et al. 2023, whose answer depends on the draft).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nudge_onnx.errors import NudgeError

from .gates import Logits

__all__ = ["Sampling"]

_FIRST_LOOK = 1024


@dataclass(frozen=True)
class Sampling:
    """How a model's next token is chosen. The defaults are greedy.

    Filters apply in the order repetition penalty, temperature, top_k, top_p, min_p.
    Raises `NudgeError` for a value out of range.
    """

    temperature: float = 0.0
    """0 is greedy; above 0 the logits are divided by it."""
    top_k: int = 0
    """Keep the k most probable tokens; 0 keeps all."""
    top_p: float = 1.0
    """Keep the most probable tokens whose probabilities first sum to at least this."""
    min_p: float = 0.0
    """Keep tokens at least this times as probable as the most probable one."""
    repetition_penalty: float = 1.0
    """Divide the positive (multiply the negative) logits of tokens in the context by this (Keskar et al. 2019)."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name, good, needs in (
            ("temperature", self.temperature >= 0, "0 or more"),
            ("top_k", self.top_k >= 0, "0 or more"),
            ("top_p", 0 < self.top_p <= 1, "above 0 and at most 1"),
            ("min_p", 0 <= self.min_p <= 1, "between 0 and 1"),
            ("repetition_penalty", self.repetition_penalty > 0, "above 0"),
            ("seed", self.seed >= 0, "0 or more"),
        ):
            if not good:
                raise NudgeError(f"{name} must be {needs}, not {getattr(self, name)}")

    @property
    def greedy(self) -> bool:
        """Whether the arg-max of the raw logits is what gets chosen."""
        return self.temperature == 0 and self.repetition_penalty == 1

    def choose(self, logits: Logits, position: int, context: Sequence[int]) -> int:
        """The token for `position` (counted from the end of the prompt), from raw logits `[vocabulary]`."""
        if self.repetition_penalty != 1 and len(context):
            logits = self._penalise(logits, context)
        if self.temperature == 0:
            return int(logits.argmax())
        scaled = logits / np.float32(self.temperature)
        kept = self._keep(scaled)
        # One vector of noise for the whole vocabulary, so that every model reads the same noise for a token.
        generator = np.random.Generator(np.random.Philox(key=[self.seed, max(position, 0)]))
        noise = generator.random(len(logits), dtype=np.float32)
        noise = -np.log(-np.log(np.clip(noise[kept], np.float32(1e-12), np.float32(1 - 6e-8))))
        return int(kept[(scaled[kept] + noise).argmax()])

    def _penalise(self, logits: Logits, context: Sequence[int]) -> Logits:
        logits = logits.copy()
        seen = np.unique(np.asarray(context, np.int64))
        seen = seen[seen < len(logits)]
        values = logits[seen]
        penalty = np.float32(self.repetition_penalty)
        logits[seen] = np.where(values > 0, values / penalty, values * penalty)
        return logits

    def _keep(self, scaled: Logits) -> npt.NDArray[np.int64]:
        kept = np.arange(len(scaled))
        if self.top_k and self.top_k < len(kept):
            kept = np.argpartition(scaled, -self.top_k)[-self.top_k :]
        if self.top_p < 1:
            kept = self._nucleus(scaled, kept)
        if self.min_p > 0:
            kept = kept[scaled[kept] >= scaled[kept].max() + np.log(self.min_p)]
        return np.sort(kept)

    def _nucleus(self, scaled: Logits, kept: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        weights = np.exp(scaled[kept] - scaled[kept].max(), dtype=np.float64)
        goal = self.top_p * weights.sum()
        look = min(_FIRST_LOOK, len(kept))
        while True:
            # A full sort of a large vocabulary costs more than a decoding step; the nucleus is almost always small.
            top = np.argpartition(weights, -look)[-look:]
            top = top[np.lexsort((top, -weights[top]))]
            mass = np.cumsum(weights[top])
            if mass[-1] >= goal or look == len(kept):
                return kept[top[: int(np.searchsorted(mass, goal)) + 1]]
            look = min(4 * look, len(kept))
