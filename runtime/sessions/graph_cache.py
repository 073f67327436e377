"""Optimised graphs with prepacked weights, kept in a folder from one load to the next.

ONNX Runtime rearranges weights for the processor when it opens a graph, into memory of each process. A graph that is
saved behind that step has the rearranged weights in its file, from where they are mapped: processes that serve one
bundle share them, and the system may drop and read them again as it pleases.

An entry is a folder of its own, `<role>-<key>`, named by everything that its content depends on. It is written beside
and renamed when it is complete, and used only while its files are the ones that were written.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nudge_onnx.bundle import sha256_of

__all__ = ["GRAPH", "Entry"]

GRAPH = "model.onnx"
_RECORD = "entry.json"


@dataclass(frozen=True)
class Entry:
    """One graph in a cache folder. `depends_on` is all that it was made from and for, JSON-ready."""

    cache_dir: Path
    role: str
    depends_on: Mapping[str, Any]

    @property
    def folder(self) -> Path:
        """Where the entry is or would be."""
        key = hashlib.sha256(json.dumps(self.depends_on, sort_keys=True).encode()).hexdigest()
        return self.cache_dir / f"{self.role}-{key[:24]}"

    def graph(self, write: Callable[[Path], None]) -> Path | None:
        """The cached graph, made by `write(path)` where there is none that is whole.

        `None`, with a warning, where the cache folder cannot be written.
        """
        if self._whole():
            return self.folder / GRAPH
        try:
            self._make(write)
        except OSError as error:
            self._warn(str(error))
            return None
        return self.folder / GRAPH

    def drop(self, reason: str) -> None:
        """Remove an entry that cannot be used, with a warning."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._warn(reason)

    def _warn(self, reason: str) -> None:
        warnings.warn(f"no graph of the {self.role} model is cached in {self.cache_dir}: {reason}", stacklevel=2)

    def _whole(self) -> bool:
        """Whether all files are there as they were written; one that was touched since is read and compared."""
        try:
            record = json.loads((self.folder / _RECORD).read_text(encoding="utf-8"))
            if record["depends_on"] != self.depends_on or GRAPH not in record["files"]:
                return False
            return all(_same(self.folder / name, file) for name, file in record["files"].items())
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return False

    def _make(self, write: Callable[[Path], None]) -> None:
        self.cache_dir.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f".{self.folder.name}.", dir=self.cache_dir))
        try:
            new = beside / "new"
            new.mkdir()
            write(new / GRAPH)
            files = {path.name: _record(path) for path in sorted(new.iterdir())}
            record = {"depends_on": self.depends_on, "files": files}
            (new / _RECORD).write_text(json.dumps(record, indent=2), encoding="utf-8")
            # Another process may have been quicker, and what it made is the same.
            if self._whole():
                return
            if self.folder.exists():
                # Damaged; whoever still has it open keeps it open.
                self.folder.rename(beside / "old")
            try:
                new.rename(self.folder)
            except OSError:
                if not self._whole():
                    raise
        finally:
            shutil.rmtree(beside, ignore_errors=True)


def _record(path: Path) -> dict[str, Any]:
    _flush(path)
    stat = path.stat()
    return {"bytes": stat.st_size, "sha256": sha256_of(path), "modified_ns": stat.st_mtime_ns}


def _same(path: Path, file: Mapping[str, Any]) -> bool:
    stat = path.stat()
    if stat.st_size != file["bytes"]:
        return False
    # Hashing a gigabyte at every load would cost more than the cache saves.
    return bool(stat.st_mtime_ns == file["modified_ns"] or sha256_of(path) == file["sha256"])


def _flush(path: Path) -> None:
    """Have a file on the disk before its folder gets its name: a power cut must not leave one full of zeros."""
    handle = os.open(path, os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
