"""The text that is read, and the prompts that are answered, the same for every engine."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from benchmarks.places import bundle_of, role_of
from nudge_onnx.bundle import Bundle
from nudge_onnx.runtime.text.tokenizer import Tokenizer

PROMPTS = (
    "What are three good reasons to learn a second language?",
    "Explain how a bicycle stays upright, in simple words.",
    "Write a short letter to a friend about the sea.",
    "How do I bake bread at home?",
    "Why is the sky blue?",
)
_TEXT = Path(__file__).parent / "text.txt"


def ids_of(role: str, count: int) -> list[int]:
    """The first `count` ids of the text in the tokenizer of a role, behind a BOS where the model wants one.

    A text that is too short is read again and again.
    """
    prefix, ids = _encoded(role)
    while len(ids) < count:
        ids = ids + ids
    return [*prefix, *ids][:count]


def whole_text(role: str) -> list[int]:
    """The ids of the text, once."""
    prefix, ids = _encoded(role)
    return [*prefix, *ids]


@lru_cache
def _encoded(role: str) -> tuple[list[int], list[int]]:
    bundle = Bundle.open(bundle_of(role, "int8"))
    record = bundle.manifest.models[role_of(role)]
    tokenizer = Tokenizer(bundle.path(record.tokenizer))
    ids = tokenizer.encode(_TEXT.read_text(encoding="utf-8"))
    closed, _ = tokenizer.encode_prompt("a", record.prompt.add_bos)
    return closed[:-1], ids
