"""A bounded pool of caches: conversations may alternate and find what they left, and threads never share."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias
from weakref import WeakSet

from .prefix import common_prefix
from .reader import Reader

__all__ = ["CachePool", "Readers"]

Readers: TypeAlias = "dict[str, Reader[Any]]"
"""One reader for each model of a bundle, by role."""


class CachePool:
    """Readers that are free, least recently used first.

    `limit` is in bytes and bounds the caches that lie idle or are lent together; one more set than fits is lent
    rather than refused, and dropped when it comes back.
    """

    def __init__(self, make: Callable[[], Readers], limit: int) -> None:
        self._make = make
        self._limit = limit
        self._lock = threading.Lock()
        self._idle: list[Readers] = []
        # Weakly: what an interrupt kept from coming back is gone, and does not count.
        self._lent: WeakSet[Reader[Any]] = WeakSet()

    def acquire(self, prompts: Mapping[str, Sequence[int]]) -> Readers:
        """The free readers that hold most of these prompts (ids by role), or fresh ones where none holds much."""
        with self._lock:
            best = max(self._idle, key=lambda readers: _shared(readers, prompts), default=None)
            if best is not None and 2 * _shared(best, prompts) < _held(best, prompts):
                # It holds another conversation, which may come back: leave it, if there is memory for one more.
                best = None if self._used() < self._limit else self._idle[0]
            if best is not None:
                self._idle.remove(best)
            readers = best or self._make()
            self._lent.update(readers.values())
            return readers

    def release(self, readers: Readers) -> None:
        """Give readers back; the least recently used are dropped while the limit is passed."""
        with self._lock:
            self._lent.difference_update(readers.values())
            self._idle.append(readers)
            while len(self._idle) > 1 and self._used() > self._limit:
                self._idle.pop(0)

    def clear(self) -> None:
        """Drop all caches that are not lent."""
        with self._lock:
            self._idle.clear()

    def _used(self) -> int:
        idle = [reader for readers in self._idle for reader in readers.values()]
        return sum(reader.decoder.nbytes for reader in (*idle, *self._lent))


def _shared(readers: Readers, prompts: Mapping[str, Sequence[int]]) -> int:
    return sum(common_prefix(readers[role].held, ids) for role, ids in prompts.items())


def _held(readers: Readers, prompts: Mapping[str, Sequence[int]]) -> int:
    return sum(len(readers[role].held) for role in prompts)
