"""How often the base model is right where it says that it is: its top-1 probability against what a text really says."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from nudge_onnx.errors import ContextLengthError
from nudge_onnx.runtime.lm import NudgedLM
from nudge_onnx.runtime.text.prompt import RawPrompt

__all__ = ["Reliability", "reliability", "reliability_of"]

_BINS = 10


@dataclass(frozen=True)
class Reliability:
    """A reliability diagram in equal bins of probability, and the expected calibration error (Naeini et al. 2015)."""

    tokens: int
    counts: tuple[int, ...]
    """Tokens of each bin."""
    confidence: tuple[float, ...]
    """Mean top-1 probability of each bin, 0 for an empty one."""
    accuracy: tuple[float, ...]
    """Share of each bin's tokens that were the model's most probable one."""
    error: float
    """The mean distance of the two, by tokens."""


def reliability(lm: NudgedLM, texts: Iterable[str], role: str = "base") -> Reliability:
    """How well calibrated a model is on texts that people wrote; one that is longer than the context is left out."""
    top1: list[float] = []
    right: list[bool] = []
    for text in texts:
        try:
            found = lm.score(RawPrompt(text), role=role, top=1)
        except ContextLengthError:
            continue
        for one in found[1:]:
            if one is not None:
                top1.append(float(np.exp(one.top[0][1])))
                right.append(one.top[0][0] == one.token_id)
    return reliability_of(top1, right)


def reliability_of(top1: Sequence[float], right: Sequence[bool]) -> Reliability:
    """The diagram of top-1 probabilities and of whether the most probable token was the one that came."""
    probabilities, hits = np.array(top1), np.array(right, float)
    places = np.minimum((probabilities * _BINS).astype(int), _BINS - 1)
    counts = np.bincount(places, minlength=_BINS) if len(places) else np.zeros(_BINS, int)
    filled = np.maximum(counts, 1)
    confidence = np.bincount(places, probabilities, minlength=_BINS) / filled if len(places) else np.zeros(_BINS)
    accuracy = np.bincount(places, hits, minlength=_BINS) / filled if len(places) else np.zeros(_BINS)
    error = float((counts * np.abs(confidence - accuracy)).sum() / max(1, counts.sum()))
    return Reliability(len(places), tuple(counts.tolist()), tuple(confidence.tolist()), tuple(accuracy.tolist()), error)
