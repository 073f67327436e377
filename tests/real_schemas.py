"""JSON schemas of real things: those of CloudFormation's resources, as the package `cfn-lint` has them."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import jsonschema

from nudge_onnx import Grammar, NudgeError

__all__ = ["real_schemas"]

_VERSION = "1.58.0"
_SHA256 = "9d9f06043160756a6158f5c3f92a44ce38254b1c578127461608305bc8262987"
_CACHE = Path(__file__).resolve().parents[1] / ".cache" / "schemas"


def real_schemas(count: int) -> list[tuple[dict[str, Any], Grammar]]:
    """Some of those that require something and hold no keyword that is refused, always the same ones."""
    found: list[tuple[dict[str, Any], Grammar]] = []
    with zipfile.ZipFile(_wheel()) as wheel:
        names = sorted(name for name in wheel.namelist() if "/schemas/resources/" in name and name.endswith(".json"))
        random.Random(1).shuffle(names)
        for name in names:
            schema = json.loads(wheel.read(name))
            if len(found) == count:
                break
            # Some patterns are of a dialect that Python's validator cannot read.
            if "required" in schema and _readable(schema):
                try:
                    found.append((schema, Grammar.json_schema({"type": "object", **schema})))
                except NudgeError:
                    continue
    return found


def _readable(schema: dict[str, Any]) -> bool:
    schema.pop("$schema", None)
    try:
        jsonschema.Draft7Validator.check_schema(schema, format_checker=jsonschema.FormatChecker())
    except jsonschema.SchemaError:
        return False
    return True


def _wheel() -> Path:
    path = _CACHE / f"cfn_lint-{_VERSION}-py3-none-any.whl"
    if not path.is_file():
        _CACHE.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--disable-pip-version-check"]
        subprocess.run([*command, "--dest", str(_CACHE), f"cfn-lint=={_VERSION}"], check=True)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == _SHA256
    return path
