"""Gates that ask both models: is the base model certain enough, beside what the nudging model says there?"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from .choosers import Choice

__all__ = ["PairGate", "bet"]

PairGate: TypeAlias = Callable[[Choice, Choice], bool]
"""`gate(base, nudge)`, what either would write at one place: is the base model certain?"""


def bet(gamma: float) -> PairGate:
    """Certain iff the base model's largest probability leads the nudging model's by at least `2 gamma - 1`.

    At 0.5 the more confident model writes; at 1 the base model never does and at 0 always. After the confidence bet of
    Hammal, Zweigenbaum, Corro (ACL 2026, arXiv 2604.16146).
    """
    lead = 2 * gamma - 1
    return lambda base, nudge: base.top1 - nudge.top1 >= lead
