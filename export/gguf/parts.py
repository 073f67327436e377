"""Split GGUF files: `name-00001-of-00003.gguf` and its siblings are one model."""

from __future__ import annotations

import re
from pathlib import Path

from nudge_onnx.errors import SourceError

__all__ = ["parts_of", "whole_name", "wholes_in"]

_PART = re.compile(r"(?P<name>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})", re.ASCII)


def parts_of(path: Path) -> list[Path]:
    """All files that `path` belongs to, first part first: itself, or every part of the split file that it is one of.

    Raises `SourceError` if a part is missing.
    """
    part = _PART.fullmatch(path.stem)
    if part is None:
        return [path]
    count = int(part["count"])
    parts = [path.with_name(f"{part['name']}-{n:05}-of-{count:05}{path.suffix}") for n in range(1, count + 1)]
    missing = [other.name for other in parts if not other.is_file()]
    if path not in parts:
        return [path]
    if missing:
        rest = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise SourceError(f"{path} is one of {count} parts, and {', '.join(missing[:1])}{rest} is not beside it")
    return parts


def whole_name(path: Path) -> str:
    """A file's name without suffix and without the number of its part."""
    part = _PART.fullmatch(path.stem)
    return path.stem if part is None else part["name"]


def wholes_in(folder: Path) -> list[Path]:
    """The GGUF files in a folder; of a split one the first of the parts that are there."""
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".gguf" and path.is_file())
    return list({whole_name(path): path for path in reversed(files)}.values())[::-1]
