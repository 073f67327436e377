"""A bundle's defaults, written anew."""

from __future__ import annotations

import json
from pathlib import Path

from nudge_onnx.bundle import MANIFEST, Bundle
from nudge_onnx.errors import BundleError
from nudge_onnx.files import write_whole
from nudge_onnx.manifest import Manifest

from .sweep import Setting

__all__ = ["apply"]


def apply(folder: Path, setting: Setting) -> None:
    """Make a setting's gate, gamma, gate temperature and tail the bundle's defaults.

    The manifest is written beside and renamed; no other file changes, so that all checksums hold. Raises `BundleError`,
    and `NudgeError` if it cannot be written.
    """
    Bundle.open(folder)
    path = folder / MANIFEST
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        data["defaults"] |= {name: getattr(setting, name) for name in ("gate", "gamma", "gate_temperature", "tail")}
        text = json.dumps(data, indent=2, ensure_ascii=False) + "\n"
        Manifest.from_json(text)
    except OSError as error:
        raise BundleError(f"{path} cannot be read ({error.strerror or error})") from None
    write_whole(path, text.encode())
