"""The bundle: a folder that holds two exported models and one manifest, `nudge.json`.

`docs/bundle.md` specifies the format for readers in any language; this module is the Python reader, `manifest.py` has
the record types that the exporter fills in. It opens no model and executes nothing of what it reads.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from nudge_onnx.errors import BundleError
from nudge_onnx.manifest import (
    FORMAT,
    FORMAT_VERSION,
    MANIFEST,
    ROLES,
    Cache,
    Defaults,
    FileRecord,
    GraphIO,
    Manifest,
    ModelRecord,
    Parity,
    Prompt,
    Source,
)

__all__ = [
    "FORMAT",
    "FORMAT_VERSION",
    "MANIFEST",
    "ROLES",
    "Bundle",
    "Cache",
    "Defaults",
    "FileRecord",
    "GraphIO",
    "Manifest",
    "ModelRecord",
    "Parity",
    "Prompt",
    "Source",
    "sha256_of",
]

_LARGEST_MANIFEST = 16 << 20


@dataclass(frozen=True)
class Bundle:
    """An opened bundle: its folder and its manifest."""

    folder: Path
    manifest: Manifest

    @classmethod
    def open(cls, folder: str | Path) -> Bundle:
        """Read and check a bundle without reading its weights.

        Raises `BundleError` naming what is wrong: no such folder, no manifest, one that `Manifest.from_json` refuses,
        a file that is missing, of another size, outside the folder, or reached by a symbolic link that leaves it.
        """
        folder = Path(folder)
        path = folder / MANIFEST
        with _readable(folder):
            if not folder.is_dir():
                raise BundleError(f"{folder} is not a folder; give the folder that nudge-export wrote")
            if not path.is_file():
                raise BundleError(f"{folder} holds no {MANIFEST}; give the folder that nudge-export wrote")
        bundle = cls(folder, Manifest.from_json(_read(path)))
        bundle._check_files()
        return bundle

    def path(self, relative: str) -> Path:
        """The path of a file of this bundle; raises `BundleError` if it would leave the folder."""
        pure = PurePosixPath(relative)
        if pure.is_absolute() or ".." in pure.parts or "\\" in relative or ":" in relative:
            raise BundleError(f"{MANIFEST} names {relative!r}, a path that leaves the bundle; do not use this bundle")
        path = self.folder.joinpath(*pure.parts)
        with _readable(path):
            if not path.resolve().is_relative_to(self.folder.resolve()):
                raise BundleError(f"{relative} is a symbolic link that leaves the bundle; do not use this bundle")
        return path

    def verify(self, progress: Any = None) -> None:
        """Read every file and compare its SHA-256 with the manifest; `progress(path)` is called before each.

        Raises `BundleError` for the first file that differs.
        """
        for relative, record in self.manifest.files.items():
            if progress is not None:
                progress(relative)
            path = self.path(relative)
            with _readable(path):
                same = sha256_of(path) == record.sha256
            if not same:
                raise BundleError(
                    f"{relative} does not match its SHA-256; the bundle was changed, export or copy it again"
                )

    def _check_files(self) -> None:
        for relative, record in self.manifest.files.items():
            path = self.path(relative)
            with _readable(path):
                if not path.is_file():
                    raise BundleError(f"{relative} is missing from the bundle; copy or export it again")
                size = path.stat().st_size
            if size != record.bytes:
                raise BundleError(
                    f"{relative} has {size} bytes instead of {record.bytes}; "
                    "it is truncated or was changed, copy or export it again"
                )


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, lower-case hex."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _read(path: Path) -> str:
    """The text of a manifest. A byte order mark stays, and is no JSON."""
    with _readable(path):
        if path.stat().st_size > _LARGEST_MANIFEST:
            raise BundleError(f"{path} is larger than {_LARGEST_MANIFEST >> 20} MiB, so it is no manifest")
        return path.read_bytes().decode("utf-8")


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn what reading a file may raise into a `BundleError` that names it."""
    try:
        yield
    except (OSError, RuntimeError, UnicodeDecodeError) as error:  # a RuntimeError is a loop of links
        reason = error.strerror if isinstance(error, OSError) else None
        raise BundleError(f"{path} cannot be read ({reason or error})") from None
