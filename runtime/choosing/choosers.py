"""What a model wants to write at a position, from its logits or from the graph's uncertainty head."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from ..inference.outputs import Logits, Summary
from .bias import TokenBias
from .gates import Gate, HeadGate, HeadRow, Softmax, broken_logits
from .grammar import Matcher
from .logprobs import TokenLogprobs, token_logprobs
from .sampling import Sampling

__all__ = ["Choice", "Chooser", "HeadChooser"]


class Choice(NamedTuple):
    """What a model wants to write at a position, and whether the gate finds it certain."""

    token: int
    top1: float
    certain: bool
    logprobs: TokenLogprobs | None = None
    """Where they were asked for."""
    entropy: float | None = None
    """Of the softmax in nats, where it was asked for or costs nothing."""


@dataclass
class Chooser:
    """Turns a row of logits into a `Choice`. The gate and log-probabilities always read raw logits.

    Bias and grammar have a say in the token alone: one that the grammar forces is not one that the model is certain of.
    """

    model: str
    sampling: Sampling
    gate: Gate
    gamma: float
    prompt_length: int
    bias: TokenBias | None = None
    matcher: Matcher | None = None
    logprobs: int | None = None
    """How many of the most probable tokens a choice says log-probabilities of; `None`: of none, nor of its own."""
    gate_temperature: float = 1.0
    """The gate reads the softmax of logits divided by this."""
    entropy: bool = False
    """Whether choices say the entropy."""
    _scratch: Logits = field(default_factory=lambda: np.empty(0, np.float32))

    def __call__(self, logits: Logits, ids: Sequence[int], end: int) -> Choice:
        """The choice after the first `end` of `ids`, from raw logits `[vocabulary]`."""
        if len(self._scratch) != len(logits):
            self._scratch = np.empty(len(logits), np.float32)
        softmax = Softmax(logits, self.model, self._scratch)
        token = softmax.argmax
        if self.bias or self.matcher or not self.sampling.greedy:
            steered = self.bias.added(logits) if self.bias else logits
            if self.matcher:
                steered = self.matcher.masked(steered, ids, end)
            token = self.sampling.choose(steered, end - self.prompt_length, ids[:end])
        logprobs = None if self.logprobs is None else token_logprobs(softmax, token, self.logprobs)
        nats = softmax.entropy * math.log(len(logits)) if self.entropy else None
        read = softmax
        if self.gate_temperature != 1.0:
            read = Softmax(logits / np.float32(self.gate_temperature), self.model)
        read.chosen = token
        return Choice(token, softmax.top1, self.gate(read, self.gamma), logprobs, nats)


class HeadChooser:
    """Turns what the uncertainty head says of a row into a `Choice`: greedy, and a gate that needs no more."""

    def __init__(self, model: str, gate: HeadGate, gamma: float, vocabulary: int) -> None:
        self._model = model
        self._gate = gate
        self._gamma = gamma
        self._vocabulary = vocabulary

    def __call__(self, summary: Summary, _ids: Sequence[int], _end: int) -> Choice:
        """The choice after any ids; raises `LogitsError` for broken logits."""
        if not 0 < summary.top1 <= 1:
            raise broken_logits(self._model, summary.top1)
        certain = self._gate(HeadRow(summary, self._vocabulary), self._gamma)
        return Choice(summary.argmax, summary.top1, certain, None, summary.entropy)
