"""Where tests find the bundles of the real pair, and how much of the long ones is wanted."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["EVERY", "real_bundle"]

EVERY = int(os.environ.get("NUDGE_TEST_EVERY", "1"))
"""CI tries a part of them: every so-many-th."""


def real_bundle(precision: str) -> Path:
    """The bundle of a precision: what NUDGE_REAL_INT8 and so on name, else what `make bundles` makes."""
    return Path(os.environ.get(f"NUDGE_REAL_{precision.upper()}", f".cache/bundles/{precision}"))
