"""Intermediate results that one export, or several of the same checkpoint, need once: each is a folder.

Several exports may use one folder of them at once: a result is made under a name of its own, by one process at a time,
and gets its name when it is complete. It is used while its files are those that were written.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from nudge_onnx.bundle import sha256_of
from nudge_onnx.errors import ExportError

from .faults import full_disk, is_full_disk
from .locks import locked

__all__ = ["fingerprint", "once"]

_MAKERS = ("nudge-onnx", "optimum", "optimum-onnx", "transformers", "torch", "onnx", "onnxruntime", "gguf")
_LAYOUT = 3
"""Raise it when the same versions of all makers write something else than before."""
_RECORD = ".made"


def fingerprint(files: Iterable[Path]) -> str:
    """Twelve hex digits that change when one of the files is replaced, or a library by which results are made.

    Of the files they take paths, sizes and times, not contents.
    """
    digest = hashlib.sha256(f"{_LAYOUT}\n".encode())
    for maker in _MAKERS:
        digest.update(f"{maker} {_version(maker)}\n".encode())
    for file in sorted(files):
        status = file.stat()
        digest.update(f"{file.resolve()}\0{status.st_size}\0{status.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:12]


def once(folder: Path, make: Callable[[Path], object]) -> Path:
    """`folder`, filled by `make(unfinished folder)` unless it is there and whole; a failure leaves nothing behind.

    Raises `ExportError` if the folder around it cannot be written, `OSError` with that folder's name if its disk is
    full, and whatever `make` raises.
    """
    if _whole(folder):
        return folder
    with contextlib.ExitStack() as stack:
        with _writing(folder.parent):
            folder.parent.mkdir(parents=True, exist_ok=True)
            held = stack.enter_context(locked(folder.with_name(f".{folder.name}.lock")))
        if _whole(folder):
            return folder
        if held:
            # What exports left that were killed; who makes one now holds the lock.
            for left in folder.parent.glob(f".{folder.name}.partial-*"):
                shutil.rmtree(left, ignore_errors=True)
        with _writing(folder.parent):
            beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.partial-", dir=folder.parent))
            stack.callback(shutil.rmtree, beside, ignore_errors=True)
            (beside / "new").mkdir()
        try:
            make(beside / "new")
            _write_record(beside / "new")
        except Exception as error:
            if is_full_disk(error):
                raise full_disk(folder.parent) from error
            raise
        with _writing(folder.parent):
            _publish(beside / "new", folder, beside / "old")
    return folder


def _publish(new: Path, folder: Path, old: Path) -> None:
    if folder.exists():
        # Damaged, or of another layout. Whoever still has it open keeps it open.
        folder.rename(old)
    try:
        new.rename(folder)
    except OSError:
        # On a disk without locks another process may have been quicker, and what it made is the same.
        if not _whole(folder):
            raise


def _write_record(folder: Path) -> None:
    files = {path.relative_to(folder).as_posix(): _facts(path) for path in folder.rglob("*") if path.is_file()}
    (folder / _RECORD).write_text(json.dumps(files, indent=2), encoding="utf-8")


def _facts(path: Path) -> dict[str, Any]:
    status = path.stat()
    return {"bytes": status.st_size, "modified_ns": status.st_mtime_ns, "sha256": sha256_of(path)}


def _whole(folder: Path) -> bool:
    """Whether all files are there as they were written; one that was touched since is read and compared."""
    try:
        files = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
        return all(_same(folder / name, facts) for name, facts in files.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _same(path: Path, facts: dict[str, Any]) -> bool:
    status = path.stat()
    if status.st_size != facts["bytes"]:
        return False
    return bool(status.st_mtime_ns == facts["modified_ns"] or sha256_of(path) == facts["sha256"])


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if is_full_disk(error):
            raise full_disk(folder) from error
        raise ExportError(f"{folder} cannot be written ({error.strerror}); choose another --work") from None


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "none"
