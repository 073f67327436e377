"""What is finished of a long computation, kept so that one which was killed goes on where it was."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .faults import full_disk, is_full_disk

__all__ = ["NOWHERE", "Arrays", "Journal"]

Arrays = dict[str, npt.NDArray[Any]]
"""Arrays by name."""

_NAMES = "names"


class Journal:
    """Named results in a folder, a file each; without a folder nothing is kept.

    A file is written beside and renamed: it is whole, or not there. Who uses one folder computes the same, so that it
    does not matter whose result is read.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder

    @property
    def keeps(self) -> bool:
        """Whether anything is kept."""
        return self._folder is not None

    def get(self, name: str) -> Arrays | None:
        """What was put under a name, by this process or an earlier one; `None` if nothing was."""
        if self._folder is None:
            return None
        try:
            with np.load(self._file(self._folder, name), allow_pickle=False) as kept:
                names = json.loads(str(kept[_NAMES]))
                return {key: kept[f"a{number}"] for number, key in enumerate(names)}
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            return None

    def put(self, name: str, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Keep a result, in place of an earlier one of this name. Raises `OSError` where the disk is full."""
        if self._folder is None:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        handle, beside = tempfile.mkstemp(dir=self._folder, suffix=".part")
        try:
            with os.fdopen(handle, "wb") as stream:
                numbered = {f"a{number}": array for number, array in enumerate(arrays.values())}
                np.savez(stream, **{_NAMES: np.array(json.dumps(list(arrays)))}, **numbered)  # type: ignore[arg-type]
            Path(beside).replace(self._file(self._folder, name))
        except BaseException as error:
            with contextlib.suppress(OSError):
                Path(beside).unlink()
            if isinstance(error, OSError) and is_full_disk(error):
                raise full_disk(self._folder.parent) from error
            raise

    def clear(self) -> None:
        """Forget everything: the work is done."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    @staticmethod
    def _file(folder: Path, name: str) -> Path:
        return folder / f"{hashlib.sha256(name.encode()).hexdigest()[:24]}.npz"


NOWHERE = Journal()
"""Keeps nothing."""
