"""What a model wants to write at a position, from its logits or from the graph's uncertainty head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..inference.outputs import Logits, Summary
from .gates import Gate, Softmax, broken_logits
from .sampling import Sampling

__all__ = ["Choice", "Chooser", "HeadChooser"]


class Choice(NamedTuple):
    """What a model wants to write at a position, and whether the gate finds it certain."""

    token: int
    top1: float
    certain: bool


class Chooser:
    """Turns a row of logits into a `Choice`: the sampling of the model and the gate, which always reads raw logits."""

    def __init__(self, model: str, sampling: Sampling, gate: Gate, gamma: float, prompt_length: int) -> None:
        self._model = model
        self._sampling = sampling
        self._gate = gate
        self._gamma = gamma
        self._prompt_length = prompt_length
        self._scratch: Logits = np.empty(0, np.float32)

    def __call__(self, logits: Logits, ids: Sequence[int], end: int) -> Choice:
        """The choice after the first `end` of `ids`, from raw logits `[vocabulary]`."""
        if len(self._scratch) != len(logits):
            self._scratch = np.empty(len(logits), np.float32)
        softmax = Softmax(logits, self._model, self._scratch)
        token = softmax.argmax
        if not self._sampling.greedy:
            token = self._sampling.choose(logits, end - self._prompt_length, ids[:end])
        return Choice(token, softmax.top1, self._gate(softmax, self._gamma))


class HeadChooser:
    """Turns what the uncertainty head says of a row into a `Choice`: greedy, and the gate of the paper."""

    def __init__(self, model: str, gamma: float) -> None:
        self._model = model
        self._gamma = gamma

    def __call__(self, summary: Summary, _ids: Sequence[int], _end: int) -> Choice:
        """The choice after any ids; raises `LogitsError` for broken logits."""
        if not 0 < summary.top1 <= 1:
            raise broken_logits(self._model, summary.top1)
        return Choice(summary.argmax, summary.top1, summary.top1 >= self._gamma)
