"""A text that every model can read."""

from __future__ import annotations

from pathlib import Path

__all__ = ["calibration_text"]

_TEXT = Path(__file__).with_name("calibration.txt")


def calibration_text() -> str:
    """A few pages written for this: prose, chat, lists, code, arithmetic, tables, other languages."""
    return _TEXT.read_text(encoding="utf-8")
