"""Whether an answer says what a reference says."""

from __future__ import annotations

import re
from collections.abc import Callable

__all__ = ["KINDS", "agrees", "kind_of", "last_number"]

_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
_LETTER = re.compile(r"\b([A-J])\b")


def last_number(text: str) -> float | None:
    """The last number in a text, as the paper scores arithmetic; thousands may have commas."""
    found = _NUMBER.findall(text)
    return float(found[-1].replace(",", "")) if found else None


def _same_number(answer: str, reference: str) -> bool:
    wanted = last_number(reference)
    return wanted is not None and last_number(answer) == wanted


def _same_letter(answer: str, reference: str) -> bool:
    found = _LETTER.findall(answer)
    return bool(found) and found[-1] == reference.strip()


def _same_text(answer: str, reference: str) -> bool:
    return " ".join(answer.split()).casefold() == " ".join(reference.split()).casefold()


KINDS: dict[str, Callable[[str, str], bool]] = {"number": _same_number, "letter": _same_letter, "exact": _same_text}
"""Ways to compare: the last number, the last single letter A to J, or all of the text but for space and case."""


def kind_of(reference: str) -> str:
    """How an answer is compared with a reference: what is a letter by letters, what ends in a number by numbers."""
    if re.fullmatch(r"\s*[A-J]\s*", reference):
        return "letter"
    # GSM8K's references end in "#### 42".
    return "number" if re.search(r"-?\d[\d,.]*\s*$", reference) else "exact"


def agrees(answer: str, reference: str) -> bool:
    """Whether an answer says what the reference says, by `kind_of` it."""
    return KINDS[kind_of(reference)](answer, reference)
