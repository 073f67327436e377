"""Types and ranges of what a caller gives: each check returns the plain Python value, or raises one clear line."""

from __future__ import annotations

import os
import reprlib
from pathlib import Path
from typing import Any

import numpy as np

from nudge_onnx.errors import NudgeError

__all__ = ["MOST", "integer", "must_be", "number", "one_of", "path"]

MOST = 2**31 - 1
"""The largest count that may be asked for: what every language has an integer for."""

_brief = reprlib.Repr()
_brief.maxstring = _brief.maxother = _brief.maxlong = 60


def must_be(name: str, what: str, value: object) -> NudgeError:
    """The error for a value that is not what it must be; a large value is shown in part."""
    try:
        shown = " ".join(_brief.repr(value).split())
    except Exception:  # a value's own repr may do anything
        shown = type(value).__name__
    return NudgeError(f"{name} must be {what}, not {shown}")


def integer(name: str, value: Any, low: int, high: int = MOST) -> int:
    """An integer, of Python or NumPy, from `low` to `high`; a bool is none."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not low <= value <= high:
        raise must_be(name, f"an integer between {low} and {high}", value)
    return int(value)


def number(name: str, value: Any, low: float, high: float, *, above: bool = False) -> float:
    """A number, of Python or NumPy, from `low` to `high`, or only above `low`; a bool is none, nor is NaN."""
    known = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not known or not low <= value <= high or (above and value == low):
        what = f"above {low:g} and at most {high:g}" if above else f"between {low:g} and {high:g}"
        raise must_be(name, f"a number {what}", value)
    return float(value)


def one_of(name: str, value: Any, names: tuple[str, ...]) -> str:
    """One of a few names."""
    if not isinstance(value, str) or value not in names:
        raise must_be(name, f"one of {', '.join(map(repr, names))}", value)
    return value


def path(name: str, value: Any) -> Path:
    """The path of a folder, by text or `os.PathLike`."""
    given = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(given, str) or not given or "\0" in given:
        raise must_be(name, "the path of a folder", value)
    return Path(given)
