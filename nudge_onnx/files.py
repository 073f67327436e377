"""Files of results: written beside and renamed, so that none is half there."""

from __future__ import annotations

import os
from pathlib import Path

from nudge_onnx.errors import NudgeError

__all__ = ["check_writable", "write_whole"]


def check_writable(path: Path) -> None:
    """Raise `NudgeError` now if `path` cannot be written, rather than when there is much to lose."""
    beside = _beside(path)
    try:
        beside.touch()
        beside.unlink()
    except OSError as error:
        raise _refused(path, error) from None
    if path.is_dir():
        raise NudgeError(f"{path} is a folder; name a file")


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that is there as a whole or not at all. Raises `NudgeError` if it cannot be written."""
    beside = _beside(path)
    try:
        with beside.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(path)
    except OSError as error:
        raise _refused(path, error) from None


def _beside(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def _refused(path: Path, error: OSError) -> NudgeError:
    return NudgeError(f"{path} cannot be written ({error.strerror or error})")
