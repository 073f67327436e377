"""A short way to the end of a JSON document that has begun, found byte by byte, not by a model.

A small model may write one string, or one list, until its tokens are spent. What it wrote is cut there and closed, so
that it still is what the grammar asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from copy import deepcopy
from functools import lru_cache
from typing import Any

import numpy as np

from nudge_onnx.errors import NudgeError

from .grammar import Grammar, byte_matcher

__all__ = ["Closing"]

# What ends most comes first: brackets and the end of a string, then values of one letter, then whatever else goes on.
_OUTSIDE = b'}]"0123456789nft[{-,: '
# In patterns such as those of ARNs and times, what stands between two parts is nearer to the end than a longer part.
_IN_STRING = b'":/-.0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_ '
_MOST_BYTES = 4096
_MOST_OF_AN_EXAMPLE = 256


class Closing:
    """Where a JSON document stands in its grammar, and how it can be ended from there."""

    def __init__(self, grammar: Grammar) -> None:
        self._matcher = byte_matcher(grammar)
        self._place = _Place()
        self._required, self._examples = _known(grammar)

    def read(self, text: str) -> bool:
        """Go on by what was written; whether the grammar has it."""
        data = text.encode()
        self._place.read(data)
        return bool(self._matcher.consume_tokens(list(data)))

    def rest(self) -> str | None:
        """What ends the document here, empty where it may end as it is; `None` if nothing short does."""
        matcher, place = self._matcher.deep_copy(), deepcopy(self._place)
        found = b""
        tried = False
        while len(found) < _MOST_BYTES:
            if matcher.is_accepting():
                return found.decode(errors="replace")
            allowed = _allowed(matcher)
            more = b""
            if not place.in_string or allowed[ord('"')]:
                tried = False
            elif not tried:
                more, tried = self._example(matcher), True
            more = more or _first(allowed, self._order(place))
            if not more or not matcher.consume_tokens(list(more)):
                return None
            place.read(more)
            found += more
        return None

    def _order(self, place: _Place) -> Iterable[int]:
        """The bytes that may come next, what is nearer to the end first."""
        if not place.in_string:
            return _OUTSIDE
        key = place.key
        if key is None:
            return _IN_STRING
        # Of the names of an object, those first that it must have: others would only be more to close.
        begun = [name for name in self._required if name.startswith(key) and name not in place.names]
        return [*(name[len(key)] if len(name) > len(key) else ord('"') for name in begun), *_IN_STRING]

    def _example(self, matcher: Any) -> bytes:
        """What ends a string that must match a pattern, if a text that matches one of the schema's does."""
        for example in self._examples:
            if matcher.validate_tokens(list(example)) == len(example):
                return example
        return b""


def _allowed(matcher: Any) -> bytes:
    """For each byte, whether it may come next."""
    return np.unpackbits(np.frombuffer(matcher.compute_bitmask(), np.uint8), bitorder="little")[:256].tobytes()


def _first(allowed: bytes, order: Iterable[int]) -> bytes:
    """The first byte of `order` that is allowed, or else any; none if none is."""
    byte = next((byte for byte in order if allowed[byte]), allowed.find(1))
    return bytes([byte]) if byte >= 0 else b""


@lru_cache(maxsize=64)
def _known(grammar: Grammar) -> tuple[list[bytes], list[bytes]]:
    """Names that a schema requires, and texts that match its patterns, each with the quote that ends a string."""
    schema = grammar.schema
    required = sorted({name.encode() for name in _required(schema)})
    examples = {example + b'"' for pattern in _patterns(schema) if (example := _matching(pattern))}
    return required, sorted(examples, key=lambda example: (len(example), example))


def _matching(pattern: str) -> bytes:
    """A text that a pattern matches from its first to its last character; none if none is found."""
    try:
        matcher = byte_matcher(Grammar.regex(pattern.removeprefix("^").removesuffix("$")))
    except NudgeError:
        return b""
    found = b""
    while len(found) < _MOST_OF_AN_EXAMPLE and not matcher.is_accepting():
        more = _first(_allowed(matcher), _IN_STRING[1:])
        if not more or not matcher.consume_tokens(list(more)):
            return b""
        found += more
    return found if matcher.is_accepting() else b""


def _parts(schema: Any) -> Iterator[dict[str, Any]]:
    """Every object in a schema."""
    if isinstance(schema, dict):
        yield schema
    inner = schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ()
    for part in inner:
        yield from _parts(part)


def _required(schema: Any) -> Iterator[str]:
    """The names that any part of a schema requires."""
    for part in _parts(schema):
        names = part.get("required")
        yield from (name for name in (names if isinstance(names, list) else ()) if isinstance(name, str))


def _patterns(schema: Any) -> list[str]:
    """The different patterns of a schema."""
    return list(dict.fromkeys(p for part in _parts(schema) if isinstance(p := part.get("pattern"), str)))


class _Place:
    """Where in JSON one is: in a string or not, and whether that is the name of an entry."""

    def __init__(self) -> None:
        self.in_string = False
        self.key: bytes | None = None
        """The name that is being written, without its quote."""
        self._escaped = False
        # For each bracket that is open, the names of its entries so far; a list has none.
        self._open: list[set[bytes] | None] = []
        self._before = 0  # the last byte outside of strings that is no space

    @property
    def names(self) -> set[bytes]:
        """The names that the innermost object has already."""
        innermost = self._open[-1] if self._open else None
        return set() if innermost is None else innermost

    def read(self, data: bytes) -> None:
        for byte in data:
            if self.in_string:
                self._inside(byte)
            elif byte == ord('"'):
                self.in_string = True
                in_object = bool(self._open) and self._open[-1] is not None
                self.key = b"" if in_object and self._before in b"{," else None
            elif byte not in b" \t\r\n":
                if byte in b"{[":
                    self._open.append(set() if byte == ord("{") else None)
                elif byte in b"}]":
                    del self._open[-1:]
                self._before = byte

    def _inside(self, byte: int) -> None:
        if self._escaped:
            self._escaped = False
        elif byte == ord('"'):
            if self.key is not None:
                self.names.add(self.key)
            self.in_string, self.key, self._before = False, None, byte
            return
        elif byte == ord("\\"):
            self._escaped = True
        if self.key is not None:
            self.key += bytes([byte])
