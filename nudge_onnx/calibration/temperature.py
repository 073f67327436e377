"""The temperature at which a model's probabilities fit what texts really say (Guo et al., ICML 2017)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nudge_onnx.errors import ContextLengthError, NudgeError
from nudge_onnx.runtime.inference.outputs import Logits
from nudge_onnx.runtime.lm import NudgedLM
from nudge_onnx.runtime.text.prompt import RawPrompt

from .reliability import Reliability, reliability_of

__all__ = ["TEMPERATURES", "Fitted", "fit_temperature"]

TEMPERATURES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.35, 1.5, 1.75, 2.0, 2.5, 3.0)
"""Those that are tried."""


@dataclass(frozen=True)
class Fitted:
    """The best of `TEMPERATURES`, by the mean negative log-likelihood of tokens in nats."""

    temperature: float
    likelihood: float
    """Mean negative log-likelihood at `temperature`."""
    plain_likelihood: float
    """The same at temperature 1."""
    reliability: Reliability
    """Of the top-1 probability at `temperature`."""
    plain_reliability: Reliability
    """The same at temperature 1."""


def fit_temperature(lm: NudgedLM, texts: Iterable[str], role: str = "base") -> Fitted:
    """Fit on texts that people wrote; one that is longer than the context is left out.

    Raises `NudgeError` if no token is left.
    """
    rows = [row for text in texts for row in _rows(lm, text, role)]
    if not rows:
        raise NudgeError("the prompts have no text to fit a temperature on")
    losses = -np.stack([logprobs for logprobs, _, _ in rows]).mean(axis=0)
    best, plain = int(losses.argmin()), TEMPERATURES.index(1.0)
    right = [hit for _, _, hit in rows]
    fitted, before = (reliability_of([float(top1[at]) for _, top1, _ in rows], right) for at in (best, plain))
    return Fitted(TEMPERATURES[best], float(losses[best]), float(losses[plain]), fitted, before)


_Row = tuple["npt.NDArray[np.float64]", "npt.NDArray[np.float64]", bool]
"""At each temperature the log-probability of the token that came and the top-1 probability; was the arg-max right?"""


def _rows(lm: NudgedLM, text: str, role: str) -> list[_Row]:
    try:
        return [row for row in lm.read(RawPrompt(text), _row, role=role) if row is not None]
    except ContextLengthError:
        return []


def _row(logits: Logits, token: int) -> _Row:
    shifted = logits - logits.max()
    sums = [float(np.exp(shifted / np.float32(one)).sum(dtype=np.float64)) for one in TEMPERATURES]
    logs = np.log(sums)
    return float(shifted[token]) / np.array(TEMPERATURES) - logs, np.exp(-logs), bool(shifted[token] == 0)
