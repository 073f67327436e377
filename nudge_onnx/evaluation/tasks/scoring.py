"""How answers of the paper's tasks are scored: by rule, where the paper asks a judge for all but arithmetic."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from nudge_onnx.calibration.agreement import last_number

__all__ = ["date", "last_letters", "letter", "number", "plausible", "yes_or_no"]

Score = dict[str, float]


def number(doc: Mapping[str, Any], results: list[str]) -> Score:
    """The last number of the answer is that of the reference, in whatever field a data set has it."""
    reference = next(str(doc[name]) for name in ("final_ans", "Answer", "answer") if name in doc)
    return _score(last_number(results[0]) is not None and last_number(results[0]) == last_number(reference))


def letter(doc: Mapping[str, Any], results: list[str]) -> Score:
    """The last single letter of the answer is that of the right choice."""
    wanted = doc.get("answerKey") or chr(ord("A") + int(doc["answer"]))
    return _score(_last(r"\b([A-J])\b", results[0]) == wanted)


def yes_or_no(doc: Mapping[str, Any], results: list[str]) -> Score:
    """The last yes or no (true or false) of the answer is the right one."""
    wanted = doc["answer"] if "answer" in doc else doc["targets"]
    return _score(_truth(_last(r"(?i)\b(yes|no|true|false)\b", results[0])) == _truth(str(wanted)))


def plausible(doc: Mapping[str, Any], results: list[str]) -> Score:
    """The last verdict of the answer, yes or plausible, no or implausible, is the right one."""
    found = _last(r"(?i)\b(yes|no|plausible|implausible|not plausible)\b", results[0])
    return _score(_truth(found) == _truth(doc["targets"][0]))


def date(doc: Mapping[str, Any], results: list[str]) -> Score:
    """The last date of the answer, month/day/year in digits, is the right one."""
    found = re.findall(r"\b(\d{1,2})/(\d{1,2})/(\d{4})\b", results[0])
    wanted = re.findall(r"(\d{1,2})/(\d{1,2})/(\d{4})", doc["targets"][0])
    return _score(bool(found) and [int(part) for part in found[-1]] == [int(part) for part in wanted[0]])


def last_letters(doc: Mapping[str, Any], results: list[str]) -> Score:
    """The last word of the answer, without what stands around it, is the reference."""
    words = re.findall(r"[A-Za-z]+", results[0])
    return _score(bool(words) and words[-1].casefold() == doc["answer"].casefold())


def _last(pattern: str, text: str) -> str | None:
    found = re.findall(pattern, text)
    return found[-1] if found else None


_TRUE = ("yes", "true", "plausible")
_FALSE = ("no", "false", "implausible", "not plausible")


def _truth(word: str | None) -> bool | None:
    plain = (word or "").casefold()
    return True if plain in _TRUE else False if plain in _FALSE else None


def _score(right: bool) -> Score:
    return {"exact_match": float(right)}
