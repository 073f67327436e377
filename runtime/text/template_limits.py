"""How much a prompt template may compute: a count of what it makes, and of the time that it takes.

A sandbox keeps a template from reaching anything. It does not keep `'x' * 10**10` from taking all memory, or nested
loops from running for years. So every operation that can make something larger than what it reads is counted before it
runs, and every block, call, filter and comparison looks at the clock.
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Sized
from typing import Any

from jinja2.utils import Namespace

__all__ = ["HeldNamespace", "Meter", "TemplateLimitError", "formatted", "growth", "power", "product"]

SECONDS = 5.0
"""Most time of the processor that one rendering takes. Real templates take milliseconds."""
_CHARACTERS = 10_000_000
_TIMES_THE_CONVERSATION = 100
"""A rendering makes at most so much text: a fixed part, and for each character of the conversation so many."""
_DEPTH = 64
"""Lists in lists, and calls in calls."""
# What a text takes besides its characters, or a place in a list. And what a digit of a number counts for: numbers of a
# million digits take seconds to multiply.
_OBJECT, _DIGIT = 64, 1000
_LOOK_AT_CLOCK = 64
_CONTAINERS: tuple[type[Collection[Any]], ...] = (
    list,
    tuple,
    set,
    frozenset,
    type({}.keys()),
    type({}.values()),
    type({}.items()),
)

# Filters and methods whose result may be as large as what they read times their arguments.
_MULTIPLY = frozenset(
    (
        *("batch", "center", "expandtabs", "indent", "ljust", "pprint", "rjust", "round", "slice", "to_bytes"),
        *("translate", "urlize", "wordwrap", "xmlattr", "zfill"),
    )
)
# A width of four digits and more, or one that comes from an argument.
_WIDE = re.compile(r"%(?:\([^)]*\))?[-#0 +]*(?:\*|\d{4}|\d*\.(?:\*|\d{4}))|\{[^{}]*:[^{}]*(?:\{|\d{4})")
_WIDEST = 2_000


class TemplateLimitError(Exception):
    """A template computes more than a prompt needs."""


class HeldNamespace(Namespace):
    """A namespace that holds no other: what a template has made cannot grow after it was weighed."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        self, *rest = args
        values = dict(*rest, **kwargs)
        weight_and_depth(list(values.values()), _CHARACTERS)
        Namespace.__init__(self, values)

    def __setitem__(self, name: str, value: Any) -> None:
        if isinstance(value, Namespace):
            raise TemplateLimitError("it puts a namespace into another value")
        super().__setitem__(name, value)


class Meter:
    """What one rendering has used."""

    def __init__(self, conversation: int) -> None:
        """`conversation` is how many characters the messages have."""
        self.left = self._all = _CHARACTERS + _TIMES_THE_CONVERSATION * conversation
        self._until = time.thread_time() + SECONDS
        self._steps = 0
        self._calls = 0

    def __enter__(self) -> Meter:
        """A call begins."""
        self._calls += 1
        if self._calls > _DEPTH:
            raise TemplateLimitError("it calls itself without end")
        return self

    def __exit__(self, *_: object) -> None:
        self._calls -= 1

    def step(self, written: int = 0) -> None:
        """Count one step, and `written` characters."""
        self.spend(written)
        self._steps += 1
        if self._steps % _LOOK_AT_CLOCK == 0 and time.thread_time() > self._until:
            raise TemplateLimitError(f"it computes for more than {SECONDS:g} seconds")

    def check(self, characters: int) -> None:
        """Refuse what would make so many characters, if that is more than what is left."""
        if characters > self.left:
            raise TemplateLimitError(f"it makes more than {self._all:,} characters")

    def spend(self, characters: int) -> None:
        """Count `characters` that were made."""
        self.check(characters)
        self.left -= characters

    def weigh(self, value: Any) -> int:
        """The weight of a value, which is refused if it is more than what is left."""
        weight = _OBJECT + len(value) if isinstance(value, str) else weight_and_depth(value, self.left)[0]
        self.check(weight)
        return weight

    def made(self, value: Any, *, anew: bool = True) -> Any:
        """Count a new value and return it. Without `anew`, the parts of a list were there before."""
        if isinstance(value, Iterator):
            return self._one_by_one(value)
        weight = self.weigh(value)
        self.spend(_OBJECT * len(value) if isinstance(value, _CONTAINERS) and not anew else weight)
        return value

    def _one_by_one(self, items: Iterator[Any]) -> Iterator[Any]:
        whole = 0
        for item in items:
            self.step()
            whole += self.weigh(item)
            self.check(whole)
            yield item


def weight_and_depth(value: Any, limit: int) -> tuple[int, int]:
    """About how many characters a value writes, what it holds twice counted twice, and how deep it is nested.

    Stops behind `limit`. Raises `TemplateLimitError` for what is nested too deeply.
    """
    weight = depth = 0
    layer: Sequence[Any] = [value]
    while layer:
        inner: list[Any] = []
        for item in layer:
            if isinstance(item, str | bytes):
                weight += _OBJECT + len(item)
            elif isinstance(item, int):
                weight += _digits(item)
            elif isinstance(item, Mapping):
                weight += _OBJECT * len(item)
                inner.extend(item.keys())
                inner.extend(item.values())
            elif isinstance(item, _CONTAINERS):
                weight += _OBJECT * len(item)
                inner.extend(item)
            elif isinstance(item, Namespace) and depth:
                raise TemplateLimitError("it puts a namespace into another value")
            else:
                weight += _OBJECT
            if weight > limit:
                return weight, depth
        layer = inner
        depth += bool(inner)
        if depth > _DEPTH:
            raise TemplateLimitError(f"it nests lists more than {_DEPTH} deep")
    return weight, depth


def product(left: Any, right: Any, limit: int) -> int:
    """At most what `left * right` counts for."""
    for value, times in ((left, right), (right, left)):
        if isinstance(times, int) and isinstance(value, str | bytes | list | tuple):
            return _size(value, limit) * max(times, 0)
    return _DIGIT * (_digits(left) + _digits(right))


def power(left: Any, right: Any) -> int:
    """At most what `left ** right` counts for."""
    return _DIGIT * _digits(left) * max(right, 1) if isinstance(left, int) and isinstance(right, int) else 0


def growth(name: str, value: Any, arguments: Sequence[Any], named: Mapping[str, Any], limit: int) -> int:
    """At most how many characters a filter or method makes of `value`; 0 for one that makes no more than it reads."""
    given = [*arguments, *named.values()]
    if name == "replace" and isinstance(value, str) and len(arguments) >= 2 and all(_is_text(a) for a in arguments[:2]):
        return len(value) + value.count(arguments[0]) * len(arguments[1])
    if name == "join":
        items, between = (given[0], value) if isinstance(value, str) and given else (value, given)
        count = len(items) if isinstance(items, Sized) else 1
        return weight_and_depth(items, limit)[0] + count * _size(between, limit)
    if name in ("format", "format_map"):
        return formatted(value, tuple(given), limit)
    if name == "tojson":
        weight, depth = weight_and_depth(value, limit)
        return weight * (1 + depth * _reach(given, limit))
    if name in _MULTIPLY or name == "replace":
        return (1 + _size(value, limit)) * (1 + _reach(given, limit))
    return 0


def formatted(pattern: Any, values: Any, limit: int) -> int:
    """At most how many characters `pattern % values` or `pattern.format(values)` has."""
    if not isinstance(pattern, str | bytes):
        return 0
    text = pattern if isinstance(pattern, str) else pattern.decode("latin-1")
    if _WIDE.search(text):
        raise TemplateLimitError("it formats with a width beyond 999")
    largest = max(
        (weight_and_depth(v, limit)[0] for v in (values if isinstance(values, tuple) else (values,))), default=0
    )
    return len(text) + (text.count("%") + text.count("{")) * (_WIDEST + largest)


def _reach(arguments: Iterable[Any], limit: int) -> int:
    """What arguments can multiply a text by: numbers count by their value."""
    return sum(abs(a) if isinstance(a, int) else _size(a, limit) for a in arguments)


def _size(value: Any, limit: int) -> int:
    """The length of a text, or the weight of anything else."""
    return len(value) if isinstance(value, str | bytes) else weight_and_depth(value, limit)[0]


def _digits(value: Any) -> int:
    return 1 + value.bit_length() // 3 if isinstance(value, int) else 0


def _is_text(value: Any) -> bool:
    return isinstance(value, str)
