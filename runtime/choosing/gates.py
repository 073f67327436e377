"""Gates: is the base model certain of its next token? Each reads raw logits and has a threshold scale of its own.

`top1` is the gate of the paper (Fei et al., ACL 2025). `docs/gates.md` says what each reads and where it is from.
The one that asks both models is in `pair_gates`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np

from nudge_onnx.arguments import must_be
from nudge_onnx.choices import GateName
from nudge_onnx.errors import LogitsError

from ..inference.outputs import Logits, Summary

__all__ = [
    "GATES",
    "Gate",
    "HeadGate",
    "HeadRow",
    "Softmax",
    "budget",
    "entropy",
    "head_gate",
    "margin",
    "resolve_gate",
    "top1",
]

Gate: TypeAlias = Callable[["Softmax", float], bool]
"""`gate(softmax, gamma)`: certain at this position?"""


class Certainty(Protocol):
    """What gates by name ask of a row, whether its logits are at hand or not."""

    @property
    def top1(self) -> float:
        """The largest probability."""

    @property
    def margin(self) -> float:
        """The largest probability minus the second largest."""

    @property
    def entropy(self) -> float:
        """Entropy over its maximum, log(vocabulary): 0 is one-hot, 1 is uniform."""


HeadGate: TypeAlias = Callable[[Certainty, float], bool]
"""A gate that needs no more than the uncertainty head says."""


class HeadRow(NamedTuple):
    """`Certainty` from the uncertainty head; margin and entropy are of a head that says them (`has_wide_head`)."""

    summary: Summary
    vocabulary: int

    @property
    def top1(self) -> float:
        """The largest probability."""
        return self.summary.top1

    @property
    def margin(self) -> float:
        """The largest probability minus the second largest."""
        return self.summary.top1 - math.exp(self.summary.top2_logit - self.summary.log_sum_exp)

    @property
    def entropy(self) -> float:
        """Entropy over its maximum, log(vocabulary): 0 is one-hot, 1 is uniform."""
        return self.summary.entropy / math.log(self.vocabulary)


class Softmax:
    """The softmax of one row of raw logits, float32 `[vocabulary]`, computed once and as far as it is asked for.

    Raises `LogitsError`, naming `model`, for NaN and for a row without a finite logit.
    """

    def __init__(self, logits: Logits, model: str, scratch: Logits | None = None) -> None:
        self.logits = logits
        self._scratch = np.empty_like(logits) if scratch is None else scratch
        self.argmax = int(logits.argmax())
        self.chosen = self.argmax
        """The token that was chosen of the row."""
        self._max = float(logits[self.argmax])
        # arg-max stops at the first NaN, and at minus infinity only where there is nothing else.
        if not np.isfinite(self._max):
            raise broken_logits(model, self._max)
        np.subtract(logits, self._max, out=self._scratch)
        np.exp(self._scratch, out=self._scratch)
        self._sum = float(self._scratch.sum(dtype=np.float64)) if len(logits) < 4096 else float(self._scratch.sum())

    @property
    def top1(self) -> float:
        """The largest probability."""
        return 1.0 / self._sum

    def logprob(self, token: int) -> float:
        """Natural logarithm of a token's probability."""
        return float(self.logits[token]) - self._max - math.log(self._sum)

    @property
    def margin(self) -> float:
        """The largest probability minus the second largest."""
        second = float(np.partition(self._scratch, -2)[-2])
        return (1.0 - second) / self._sum

    @property
    def tail(self) -> float:
        """Probability of the chosen token and of all that are no more probable than it."""
        return float(self._scratch[self.logits <= self.logits[self.chosen]].sum(dtype=np.float64)) / self._sum

    @property
    def entropy(self) -> float:
        """Entropy over its maximum, log(vocabulary): 0 is one-hot, 1 is uniform."""
        shifted = np.maximum(self.logits - np.float32(self._max), np.float32(-100.0))
        nats = np.log(self._sum) - float((self._scratch * shifted).sum()) / self._sum
        return float(nats / np.log(len(self.logits)))


def broken_logits(model: str, value: float) -> LogitsError:
    """The error for a row that holds no probabilities."""
    return LogitsError(
        f"the {model} model returned {value} logits; its graph or its precision is broken, export it again"
    )


def top1(row: Certainty, gamma: float) -> bool:
    """Certain iff the largest probability is at least `gamma` (0 to 1; the paper uses 0.3 and 0.4)."""
    return row.top1 >= gamma


def margin(row: Certainty, gamma: float) -> bool:
    """Certain iff the largest probability leads the second by at least `gamma` (0 to 1)."""
    return row.margin >= gamma


def entropy(row: Certainty, gamma: float) -> bool:
    """Certain iff the normalised entropy is at most `1 - gamma`, so that here too a larger gamma asks for more."""
    return row.entropy <= 1.0 - gamma


def budget(softmax: Softmax, gamma: float) -> bool:
    """Certain unless the drawn token is of the unlikely tail that has at most `gamma` of the probability in all.

    So the nudging model writes with a probability of at most `gamma` at each position. An arg-max is never of the tail.
    The greedy approximation of a knapsack of Hammal, Zweigenbaum, Corro (KAD, EACL 2026, arXiv 2510.27017).
    """
    return softmax.tail > gamma


GATES: Mapping[GateName, Gate] = {"top1": top1, "margin": margin, "entropy": entropy, "bet": top1, "budget": budget}
"""What a chooser asks of its model's row. Of `bet`, what it says is not used: the loop asks both models."""


def head_gate(gate: Gate) -> HeadGate | None:
    """The gate, if the uncertainty head can say enough for it."""
    return next((known for known in (top1, margin, entropy) if known is gate), None)


def resolve_gate(gate: str | Gate) -> Gate:
    """A gate by name, or a callable as it is; raises `NudgeError` for an unknown name."""
    if callable(gate):
        return gate
    for name, function in GATES.items():
        if isinstance(gate, str) and gate == name:
            return function
    raise must_be("gate", f"one of {', '.join(map(repr, GATES))} or a callable", gate)
