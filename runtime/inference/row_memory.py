"""Remembers from one load to the next what was asked of a model: one small file an answer.

An answer is kept with all that it depends on and believed for nothing else. A file that cannot be read or written means
only that the model is asked again.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nudge_onnx.bundle import FileRecord

from ..sessions.model_session import ModelSession
from ..sessions.providers import onnxruntime
from ..system.processor import processor

__all__ = ["FOLDER_VARIABLE", "RowMemory", "user_folder"]

FOLDER_VARIABLE = "NUDGE_ONNX_CACHE"
"""Environment variable that names the folder to remember in where no `cache_dir` was given."""

_PROBE = 2  # goes up when the probe asks more, so that older answers are forgotten


@dataclass(frozen=True)
class RowMemory:
    """What is remembered of one model, opened in one way."""

    folder: Path | None
    """Where answers are kept; `None`: nowhere."""
    depends_on: Mapping[str, Any]
    """All that an answer is for, JSON-ready."""

    @classmethod
    def of(cls, session: ModelSession, files: Mapping[str, FileRecord], cache_dir: Path | None = None) -> RowMemory:
        """What is remembered of an open session; `files` are the manifest's.

        Nothing is where another provider than the CPU's runs it: ONNX Runtime does not tell one device from another.
        """
        ort = onnxruntime()
        record = session.record
        depends_on = {
            "probe": _PROBE,
            "files": {path: files[path].sha256 for path in (record.graph, *record.external_data)},
            "cache": asdict(record.cache),
            "context_length": record.context_length,
            "prompt_rows": record.prompt_rows,
            "windows": None if record.windows is None else list(record.windows),
            "onnxruntime": f"{ort.__version__} {ort.get_build_info()}",
            "processor": processor(),
            "provider": session.provider,
            **session.opened_with,
        }
        return cls((cache_dir or user_folder()) if session.provider == "cpu" else None, depends_on)

    def get(self, question: str) -> Any:
        """The answer that was kept, whatever it is; `None` where there is none to believe."""
        try:
            kept = json.loads(self._path(question).read_text(encoding="utf-8"))
            return kept[question] if kept["depends_on"] == self.depends_on else None
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None

    def put(self, question: str, answer: str | bool) -> None:
        """Keep an answer: written beside and renamed, so that another process may do the same."""
        text = json.dumps({question: answer, "depends_on": self.depends_on}, indent=2)
        with suppress(OSError):
            path = self._path(question)
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, beside = tempfile.mkstemp(prefix=f".{question}-", dir=path.parent)
            try:
                with os.fdopen(handle, "w", encoding="utf-8") as stream:
                    stream.write(text)
                Path(beside).replace(path)
            except OSError:
                Path(beside).unlink(missing_ok=True)
                raise

    def _path(self, question: str) -> Path:
        if self.folder is None:
            raise FileNotFoundError("no folder to remember in")
        key = hashlib.sha256(json.dumps(self.depends_on, sort_keys=True).encode()).hexdigest()
        return self.folder / f"{question}-{key[:24]}.json"


def user_folder() -> Path | None:
    """The folder `nudge-onnx` among the user's caches, or what `NUDGE_ONNX_CACHE` names; `None` without a home."""
    named = os.environ.get(FOLDER_VARIABLE)
    if named:
        return Path(named)
    try:
        home = Path.home()
    except RuntimeError:
        return None
    if sys.platform == "win32":
        caches = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif sys.platform == "darwin":
        caches = home / "Library" / "Caches"
    else:
        # The specification has relative paths ignored.
        wanted = Path(os.environ.get("XDG_CACHE_HOME", ""))
        caches = wanted if wanted.is_absolute() else home / ".cache"
    return caches / "nudge-onnx"
