"""JSON from a stranger: what the standard leaves open, and readers do differently, is refused."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from typing import Any, NoReturn

__all__ = ["DEEPEST", "parse", "shown"]

DEEPEST = 64
"""Objects and lists inside each other, at most."""

_LONGEST_NUMBER = 400
_SHOWN = 60
_SURROGATE = re.compile("[\ud800-\udfff]")


def parse(text: str) -> Any:
    """The value that `text` holds.

    Raises `ValueError`, one line, for what is no JSON, and for a name that stands twice in one object, NaN and
    infinities, numbers beyond a double's range, half of a surrogate pair, and more than `DEEPEST` levels.
    """
    try:
        value = json.loads(
            text, parse_constant=_refuse, parse_int=_whole, parse_float=_float, object_pairs_hook=_without_twins
        )
    except RecursionError:
        raise ValueError(f"it is nested more than {DEEPEST} levels deep") from None
    _look_through(value)
    return value


def shown(value: Any) -> str:
    """A value as the words of an error: one line of ASCII, cut short."""
    text = json.dumps(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _whole(text: str) -> int:
    if len(text) <= _LONGEST_NUMBER:
        value = int(text)
        if math.isfinite(_float(text)):
            return value
    raise ValueError("a number is too large")


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError("a number is too large")
    return value


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        twin = counts.most_common(1)[0][0]
        raise ValueError(f"{shown(twin)} stands twice in one object")
    return found


def _look_through(value: Any) -> None:
    """Refuse what only a look at the whole shows: its depth, and texts that are none."""
    level, depth = [value], 0
    while level:
        for text in (item for item in level if isinstance(item, str)):
            if _SURROGATE.search(text):
                raise ValueError("a text holds half of a surrogate pair")
        nested = [item for item in level if isinstance(item, (dict, list))]
        depth += bool(nested)
        if depth > DEEPEST:
            raise ValueError(f"it is nested more than {DEEPEST} levels deep")
        level = [part for item in nested for part in (item if isinstance(item, list) else [*item, *item.values()])]
