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


def mixed_prompts(count: int, words: int | None = None) -> list[str]:
    """Prompts of 5 to 220 words, or of so many, no two alike."""
    text = _TEXT.read_text(encoding="utf-8").split()
    lengths = (5, 12, 40, 90, 220, 20, 150, 8)
    found = []
    for number in range(count):
        length = words or lengths[number % len(lengths)]
        start = 131 * number % max(1, len(text) - length)
        found.append(f"Continue in your own words: {' '.join(text[start : start + length])}")
    return found


@lru_cache
def _encoded(role: str) -> tuple[list[int], list[int]]:
    bundle = Bundle.open(bundle_of(role, "int8"))
    record = bundle.manifest.models[role_of(role)]
    tokenizer = Tokenizer(bundle.path(record.tokenizer))
    ids = tokenizer.encode(_TEXT.read_text(encoding="utf-8"))
    closed, _ = tokenizer.encode_prompt("a", record.prompt.add_bos)
    return closed[:-1], ids
