"""A bundle's defaults, written anew."""

from __future__ import annotations

import json
import os
from pathlib import Path

from nudge_onnx.bundle import MANIFEST, Bundle
from nudge_onnx.errors import BundleError
from nudge_onnx.manifest import Manifest

from .sweep import Setting

__all__ = ["apply"]


def apply(folder: Path, setting: Setting) -> None:
    """Make a setting's gate, gamma, gate temperature and tail the bundle's defaults.

    The manifest is written beside and renamed; no other file changes, so that all checksums hold. Raises `BundleError`.
    """
    Bundle.open(folder)
    path = folder / MANIFEST
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        data["defaults"] |= {name: getattr(setting, name) for name in ("gate", "gamma", "gate_temperature", "tail")}
        text = json.dumps(data, indent=2, ensure_ascii=False) + "\n"
        Manifest.from_json(text)
        beside = path.with_name(path.name + ".part")
        with beside.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(path)
    except OSError as error:
        raise BundleError(f"{path} cannot be written ({error.strerror or error})") from None
