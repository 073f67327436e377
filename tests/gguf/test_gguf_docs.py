"""docs/export.md names every architecture and pre-tokenizer that is read, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from nudge_onnx.export.gguf.configuration import ARCHITECTURES
from nudge_onnx.export.gguf.pre_tokenizers import PRE_TOKENIZERS

DOCS = (Path(__file__).parents[2] / "docs" / "export.md").read_text(encoding="utf-8")


def named(row: str, behind: str) -> list[str]:
    """What stands in backquotes in a row of the table, behind a phrase."""
    line = next(line for line in DOCS.splitlines() if line.startswith(row))
    return re.findall("`([^`]+)`", line[line.index(behind) + len(behind) :])


def test_every_architecture_is_named() -> None:
    assert sorted(named("| `general.architecture`", "` |")) == sorted(ARCHITECTURES)


def test_every_pre_tokenizer_is_named() -> None:
    assert named("| tokenizer |", "pre-tokenizers") == list(PRE_TOKENIZERS)
