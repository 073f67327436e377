"""Sampling by shared noise: a token is the arg-max of log-probability plus Gumbel noise.

The noise of a position depends on the seed and the position alone, so a token does not depend on how many rows were
read at once. Two models with one vocabulary that draw with the same noise tend to draw the same token, which is what
lets a draft be checked ahead of the base model while every token keeps exactly the base model's distribution
(the Gumbel coupling of Daliri, Musco, Suresh, "Coupling without Communication and Drafter-Invariant Speculative
Decoding", 2024; it replaces the accept-or-resample step of Leviathan et al. 2023, whose answer depends on the draft).
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from nudge_onnx.arguments import integer, number

from ..inference.outputs import Logits

__all__ = ["Sampling", "fresh_seed"]

_FIRST_LOOK = 1024
_SEEDS = 2**64


def fresh_seed() -> int:
    """A seed that nobody can foresee."""
    return secrets.randbelow(_SEEDS)


@dataclass(frozen=True)
class Sampling:
    """How a model's next token is chosen. The defaults are greedy.

    Filters apply in the order repetition, presence and frequency penalty, temperature, top_k, top_p, min_p.
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
    presence_penalty: float = 0.0
    """Subtract this from the logits of tokens that the answer has, from -2 to 2 (as in OpenAI's API)."""
    frequency_penalty: float = 0.0
    """Subtract this for each time that the answer has the token, from -2 to 2 (as in OpenAI's API)."""
    seed: int | None = 0
    """Of the noise, below 2**64, each another one; `None` is a fresh random one for every answer."""

    def __post_init__(self) -> None:
        for name, value in (
            ("temperature", number("temperature", self.temperature, 0, 1e6)),
            ("top_k", integer("top_k", self.top_k, 0)),
            ("top_p", number("top_p", self.top_p, 0, 1, above=True)),
            ("min_p", number("min_p", self.min_p, 0, 1)),
            ("repetition_penalty", number("repetition_penalty", self.repetition_penalty, 1e-3, 1e3)),
            ("presence_penalty", number("presence_penalty", self.presence_penalty, -2, 2)),
            ("frequency_penalty", number("frequency_penalty", self.frequency_penalty, -2, 2)),
            ("seed", None if self.seed is None else integer("seed", self.seed, 0, _SEEDS - 1)),
        ):
            object.__setattr__(self, name, value)

    def with_seed(self, fresh: int) -> Sampling:
        """This sampling with a seed: its own, or else `fresh`."""
        return replace(self, seed=fresh) if self.seed is None else self

    @property
    def greedy(self) -> bool:
        """Whether the arg-max of the raw logits is what gets chosen."""
        return self.temperature == 0 and self.repetition_penalty == 1 and not self._counts

    @property
    def _counts(self) -> bool:
        return self.presence_penalty != 0 or self.frequency_penalty != 0

    def choose(self, logits: Logits, position: int, context: Sequence[int]) -> int:
        """The token for `position` (counted from the end of the prompt), from raw logits `[vocabulary]`."""
        if self.repetition_penalty != 1 and len(context):
            logits = self._penalise(logits, context)
        if self._counts and position > 0:
            logits = self._penalise_counts(logits, context[len(context) - position :])
        best = int(logits.argmax())
        if self.temperature == 0:
            return best
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            scaled = logits / np.float32(self.temperature)
        if not np.isfinite(scaled[best]):
            # So low a temperature that floats cannot hold the quotient is none.
            return best
        kept = self.kept(scaled)
        # One vector of noise for the whole vocabulary, so that every model reads the same noise for a token. NumPy
        # would make floats of a list with a seed of 2**63 or more, and round them.
        key = np.array([self.seed or 0, max(position, 0)], np.uint64)
        generator = np.random.Generator(np.random.Philox(key=key))
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

    def _penalise_counts(self, logits: Logits, answer: Sequence[int]) -> Logits:
        logits = logits.copy()
        seen, counts = np.unique(np.asarray(answer, np.int64), return_counts=True)
        kept = seen < len(logits)
        penalties = self.presence_penalty + self.frequency_penalty * counts[kept]
        logits[seen[kept]] -= penalties.astype(np.float32)
        return logits

    def kept(self, scaled: Logits) -> npt.NDArray[np.int64]:
        """Ids of the tokens that the filters leave, of log-probabilities float32 [vocabulary]."""
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
