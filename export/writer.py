"""Puts a bundle in place in one step: it is built beside its target and renamed when it is complete."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nudge_onnx.bundle import MANIFEST, FileRecord, Manifest, sha256_of
from nudge_onnx.errors import ExportError

from .faults import is_full_disk

__all__ = ["Staging", "check_target", "file_records", "staged"]


@dataclass(frozen=True)
class Staging:
    """Two folders on the disk of the target: `bundle` becomes the target, `work` is thrown away."""

    bundle: Path
    work: Path

    def write_manifest(self, manifest: Manifest) -> None:
        """Write `nudge.json`, the last file of a bundle."""
        (self.bundle / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")


def check_target(target: Path, *, overwrite: bool) -> None:
    """Raise `ExportError` if `target` is there and may not be replaced: only a bundle ever is."""
    if not os.path.lexists(target):
        return
    if not (target / MANIFEST).is_file() or target.is_symlink():
        raise ExportError(f"{target} exists and is no bundle, so it is left alone; choose another --output")
    if not overwrite:
        raise ExportError(f"{target} exists; replace it with --overwrite, or choose another --output")


@contextlib.contextmanager
def staged(target: Path, *, overwrite: bool = False) -> Iterator[Staging]:
    """Build a bundle in a hidden folder beside `target`; rename it to `target` when the block ends without exception.

    Whatever happens else, a full disk and SystemExit included, the hidden folder is removed and `target` stays as it
    was. Raises `ExportError` where `target` may not be replaced, or the disk is full.
    """
    check_target(target, overwrite=overwrite)
    folder: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.partial-", dir=target.parent))
        staging = Staging(folder / "bundle", folder / "work")
        staging.bundle.mkdir()
        staging.work.mkdir()
        yield staging
        _settle(staging.bundle)
        _replace(staging.bundle, target, folder / "old", overwrite=overwrite)
    except Exception as error:
        if not is_full_disk(error):
            raise
        free = shutil.disk_usage(target.parent).free if target.parent.is_dir() else 0
        raise ExportError(
            f"the disk of {target.parent} is full, {free / 1e9:.1f} GB were free; "
            "an export needs about ten bytes for each parameter of the larger model"
        ) from None
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def file_records(bundle: Path) -> dict[str, FileRecord]:
    """Size and SHA-256 of every file, by its path with `/`."""
    paths = sorted(path for path in bundle.rglob("*") if path.is_file())
    return {
        path.relative_to(bundle).as_posix(): FileRecord(bytes=path.stat().st_size, sha256=sha256_of(path))
        for path in paths
    }


def _replace(bundle: Path, target: Path, old: Path, *, overwrite: bool) -> None:
    # An export takes minutes: someone else may have made the target meanwhile.
    check_target(target, overwrite=overwrite)
    if target.exists():
        target.rename(old)
    try:
        bundle.rename(target)
    except BaseException:
        if old.exists():
            old.rename(target)
        raise


def _settle(folder: Path) -> None:
    """Give all files the rights of a new file, and have them on the disk before the folder is renamed.

    Weights are written readable by their owner alone, and a server often runs as another user. Without the flush a
    power cut could leave a bundle of empty files.
    """
    mask = os.umask(0)
    os.umask(mask)
    for path in [*folder.rglob("*"), folder]:
        if path.is_dir() and os.name == "nt":
            continue
        if path.is_file():
            path.chmod(0o666 & ~mask)
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
