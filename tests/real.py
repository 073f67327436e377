"""Where tests find the bundles of the real pair, and how much of the long ones is wanted."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

__all__ = ["EVERY", "part", "real_bundle"]

T = TypeVar("T")

EVERY = int(os.environ.get("NUDGE_TEST_EVERY", "1"))
"""CI tries a part of them: every so-many-th."""


def part(things: Sequence[T], least: int = 1) -> Sequence[T]:
    """Every so-many-th of `things`, or more often for at least so many."""
    return things[:: max(1, min(EVERY, len(things) // least))]


def real_bundle(precision: str) -> Path:
    """The bundle of a precision: what NUDGE_REAL_INT8 and so on name, else what `make bundles` makes."""
    return Path(os.environ.get(f"NUDGE_REAL_{precision.upper()}", f".cache/bundles/{precision}"))
