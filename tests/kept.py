"""What tests export, kept for processors and machines that only run it.

With the variable NUDGE_TEST_EXPORTS, the first run of a test writes its export to that folder, and later runs read it:
in less time, without PyTorch, and on another processor than the one that exported. A folder belongs to one state of the
source: whoever starts the runs begins with an empty one.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

__all__ = ["digest", "kept"]


def kept(key: object, make: Callable[[Path], object], otherwise: Path) -> Path:
    """The folder that `make` filled for `key`, now or in an earlier run; `otherwise`, filled, where nothing is kept."""
    root = os.environ.get("NUDGE_TEST_EXPORTS")
    if not root:
        make(otherwise)
        return otherwise
    folder = Path(root) / hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    if not folder.exists():
        part = folder.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        part.parent.mkdir(parents=True, exist_ok=True)
        make(part)
        part.rename(folder)
    return folder


def digest(folder: Path) -> str:
    """A hash of a checkpoint: of all files of a folder, or of a file."""
    total = hashlib.sha256()
    for path in sorted(path for path in (folder, *folder.rglob("*")) if path.is_file()):
        total.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return total.hexdigest()
