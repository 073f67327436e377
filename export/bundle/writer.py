"""Puts a bundle in place in one step: it is built beside its target and renamed when it is complete."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from nudge_onnx.bundle import MANIFEST, FileRecord, Manifest, sha256_of
from nudge_onnx.errors import BundleError, ExportError

from ..support.faults import is_full_disk

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
    """Raise `ExportError` if `target` cannot be made, or is there and may not be replaced.

    Only a bundle ever is, and only one that holds nothing but what its manifest lists.
    """
    with _writing(target.parent):
        if not os.path.lexists(target):
            return
        is_bundle = (target / MANIFEST).is_file() and not target.is_symlink()
    if not is_bundle:
        raise ExportError(f"{target} exists and is no bundle, so it is left alone; choose another --output")
    if not overwrite:
        raise ExportError(f"{target} exists; replace it with --overwrite, or choose another --output")
    try:
        manifest = Manifest.from_json((target / MANIFEST).read_text(encoding="utf-8"))
    except (BundleError, OSError, UnicodeDecodeError):
        raise ExportError(
            f"{target} holds a {MANIFEST} that is no manifest of a bundle, so it is left alone; choose another --output"
        ) from None
    with _writing(target):
        foreign = sorted(_foreign(target, manifest))
    if foreign:
        others = f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""
        raise ExportError(
            f"{target} holds what is not the bundle's ({', '.join(foreign[:3])}{others}); "
            "move that away, or choose another --output"
        )


@contextlib.contextmanager
def staged(target: Path, *, overwrite: bool = False) -> Iterator[Staging]:
    """Build a bundle in a hidden folder beside `target`; rename it to `target` when the block ends without exception.

    Whatever happens else, a full disk and SystemExit included, the hidden folder is removed and `target` stays as it
    was; only a finished bundle is kept, under another name, where `target` may not be replaced any more.
    Raises `ExportError` where `target` may not be replaced or written, or a disk is full.
    """
    check_target(target, overwrite=overwrite)
    place = Path(os.path.abspath(target))  # noqa: PTH100  (links stay: the folder is made where the user sees it)
    folder: Path | None = None
    try:
        with _writing(target.parent):
            place.parent.mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(prefix=f".{place.name}.partial-", dir=place.parent))
            staging = Staging(folder / "bundle", folder / "work")
            staging.bundle.mkdir()
            staging.work.mkdir()
        yield staging
        _settle(staging.bundle)
        _replace(staging.bundle, target, place, folder / "old", overwrite=overwrite)
    except Exception as error:
        if not is_full_disk(error):
            raise
        disk = _disk(error, folder, target.parent)
        free = shutil.disk_usage(disk).free if disk.is_dir() else 0
        raise ExportError(
            f"the disk of {disk} is full, {free / 1e9:.1f} GB were free; "
            "an export needs about ten bytes for each parameter of the larger model"
        ) from None
    finally:
        if folder is not None:
            _clear(folder)


def file_records(bundle: Path) -> dict[str, FileRecord]:
    """Size and SHA-256 of every file, by its path with `/`."""
    paths = sorted(path for path in bundle.rglob("*") if path.is_file())
    return {
        path.relative_to(bundle).as_posix(): FileRecord(bytes=path.stat().st_size, sha256=sha256_of(path))
        for path in paths
    }


def _replace(bundle: Path, target: Path, place: Path, old: Path, *, overwrite: bool) -> None:
    # An export takes minutes: someone else may have made the target meanwhile, or put something there.
    try:
        check_target(target, overwrite=overwrite)
        if place.exists():
            place.rename(old)
        try:
            if old.exists():
                # Once more, now that no one puts anything there by its name.
                check_target(old, overwrite=True)
            bundle.rename(place)
        except BaseException:
            if old.exists():
                old.rename(place)
            raise
    except (ExportError, OSError) as error:
        kept = Path(tempfile.mkdtemp(prefix=f"{place.name}.new-", dir=place.parent))
        kept.rmdir()
        bundle.rename(kept)
        reason = str(error) if isinstance(error, ExportError) else f"{target} cannot be replaced ({error.strerror})"
        raise ExportError(f"{reason.replace(str(old), str(target))}; the new bundle is at {kept}") from None


def _foreign(target: Path, manifest: Manifest) -> Iterator[str]:
    """What lies in a bundle and is no file that its manifest lists, nor a folder of such files."""
    listed = {MANIFEST, *(PurePosixPath(path).as_posix() for path in manifest.files)}
    folders = {parent.as_posix() for path in listed for parent in PurePosixPath(path).parents}
    for at, inner, files in os.walk(target, onerror=_raise):
        for name in (*inner, *files):
            path = Path(at, name)
            relative = path.relative_to(target).as_posix()
            if path.is_dir() and not path.is_symlink():
                if relative not in folders:
                    yield f"{relative}/"
            elif relative not in listed:
                yield relative
        inner[:] = [name for name in inner if Path(at, name).relative_to(target).as_posix() in folders]


def _raise(error: OSError) -> None:
    raise error


def _clear(folder: Path) -> None:
    """Remove a hidden folder; of a bundle that was replaced only what its manifest lists, and what it becomes empty."""
    old = folder / "old"
    with contextlib.suppress(OSError, BundleError, UnicodeDecodeError):
        manifest = Manifest.from_json((old / MANIFEST).read_text(encoding="utf-8"))
        for path in (*manifest.files, MANIFEST):
            (old / path).unlink(missing_ok=True)
        for at, _, _ in os.walk(old, topdown=False):
            Path(at).rmdir()
    shutil.rmtree(folder / "bundle", ignore_errors=True)
    shutil.rmtree(folder / "work", ignore_errors=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


def _disk(error: BaseException, folder: Path | None, beside: Path) -> Path:
    """The folder whose disk is full: the one that the error names, or else that of the target."""
    named = getattr(error, "filename", None)
    if not isinstance(named, str) or (folder is not None and Path(named).is_relative_to(folder)):
        return beside
    path = Path(named)
    return path if path.is_dir() else path.parent


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if is_full_disk(error):
            raise
        raise ExportError(f"{folder} cannot be written ({error.strerror}); choose another --output") from None


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
