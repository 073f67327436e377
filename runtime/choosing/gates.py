"""Gates: is the base model certain of its next token? Each reads raw logits and has a threshold scale of its own.

`top1` is the gate of the paper (Fei et al., ACL 2025). Later work (arXiv 2604.16146) reports others to be better.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np

from nudge_onnx.arguments import must_be
from nudge_onnx.choices import GateName
from nudge_onnx.errors import LogitsError

from ..inference.outputs import Logits

__all__ = ["GATES", "Gate", "Softmax", "entropy", "margin", "resolve_gate", "top1"]

Gate: TypeAlias = Callable[["Softmax", float], bool]
"""`gate(softmax, gamma)`: certain at this position?"""


class Softmax:
    """The softmax of one row of raw logits, float32 `[vocabulary]`, computed once and as far as it is asked for.

    Raises `LogitsError`, naming `model`, for NaN and for a row without a finite logit.
    """

    def __init__(self, logits: Logits, model: str, scratch: Logits | None = None) -> None:
        self.logits = logits
        self._scratch = np.empty_like(logits) if scratch is None else scratch
        self.argmax = int(logits.argmax())
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


def top1(softmax: Softmax, gamma: float) -> bool:
    """Certain iff the largest probability is at least `gamma` (0 to 1; the paper uses 0.3 and 0.4)."""
    return softmax.top1 >= gamma


def margin(softmax: Softmax, gamma: float) -> bool:
    """Certain iff the largest probability leads the second by at least `gamma` (0 to 1)."""
    return softmax.margin >= gamma


def entropy(softmax: Softmax, gamma: float) -> bool:
    """Certain iff the normalised entropy is at most `1 - gamma`, so that here too a larger gamma asks for more."""
    return softmax.entropy <= 1.0 - gamma


GATES: Mapping[GateName, Gate] = {"top1": top1, "margin": margin, "entropy": entropy}


def resolve_gate(gate: str | Gate) -> Gate:
    """A gate by name, or a callable as it is; raises `NudgeError` for an unknown name."""
    if callable(gate):
        return gate
    for name, function in GATES.items():
        if isinstance(gate, str) and gate == name:
            return function
    raise must_be("gate", f"one of {', '.join(map(repr, GATES))} or a callable", gate)
