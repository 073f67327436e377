"""Intermediate results that one export, or several of the same checkpoint, need once: each is a folder."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

__all__ = ["fingerprint", "once"]


def fingerprint(files: Iterable[Path]) -> str:
    """Twelve hex digits that change when one of the files is replaced: of paths, sizes and times, not of contents."""
    digest = hashlib.sha256()
    for file in sorted(files):
        status = file.stat()
        digest.update(f"{file.resolve()}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:12]


def once(folder: Path, make: Callable[[Path], object]) -> Path:
    """`folder`, filled by `make(partial folder)` unless it is there already; a failure leaves nothing behind."""
    if not folder.is_dir():
        partial = folder.with_name(f"{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            make(partial)
            partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return folder
