"""A bounded pool of caches: conversations may alternate and find what they left, and threads never share."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias
from weakref import WeakSet

from nudge_onnx.errors import NudgeError

from ..text.prefix import common_prefix
from .remembered_rows import RememberedRows

__all__ = ["CachePool", "Memories"]

Memories: TypeAlias = "dict[str, RememberedRows[Any]]"
"""One memory for each model of a bundle, by role."""


class CachePool:
    """Memories that are free, least recently used first.

    `limit` is in bytes and bounds all that is kept by memories that lie idle, and those that are lent count too. The
    set that came back last stays whatever its size; one more set than fits is lent rather than refused, and dropped
    when it comes back.
    """

    def __init__(self, make: Callable[[], Memories], limit: int) -> None:
        self._make: Callable[[], Memories] | None = make
        self.limit = limit
        """Most bytes that are kept."""
        self._lock = threading.Lock()
        self._idle: list[Memories] = []
        # Weakly: what an interrupt kept from coming back is gone, and does not count.
        self._lent: WeakSet[RememberedRows[Any]] = WeakSet()

    def acquire(self, prompts: Mapping[str, Sequence[int]], nbytes: int = 0) -> Memories:
        """The free memories that hold most of these prompts (ids by role), or fresh ones where none holds much.

        What lies idle makes room for the `nbytes` that they may come to take.
        Raises `NudgeError` once the pool is closed.
        """
        with self._lock:
            if self._make is None:
                raise NudgeError("this NudgedLM is closed; load the bundle again")
            best = max(self._idle, key=lambda memories: _worth(memories, prompts), default=None)
            if best is not None and not _goes_on(best, prompts):
                # It holds another conversation, which may come back: leave it, if there is memory for one more.
                best = None if self.nbytes < self.limit else self._idle[0]
            if best is not None:
                self._idle.remove(best)
            memories = best or self._make()
            self._lent.update(memories.values())
            while len(self._idle) > 1 and self.nbytes + nbytes > self.limit:
                self._idle.pop(0)
            return memories

    def release(self, memories: Memories) -> None:
        """Give memories back; the least recently used are dropped while the limit is passed."""
        for memory in memories.values():
            memory.rest()
        with self._lock:
            self._lent.difference_update(memories.values())
            if self._make is None:
                return
            self._idle.append(memories)
            while len(self._idle) > 1 and self.nbytes > self.limit:
                self._idle.pop(0)

    def close(self) -> None:
        """Drop all memories, those that are lent once they come back, and whatever makes new ones."""
        with self._lock:
            self._make = None
            self._idle.clear()

    @property
    def idle(self) -> tuple[Memories, ...]:
        """What waits for an answer, least recently used first."""
        return tuple(self._idle)

    @property
    def lent(self) -> tuple[RememberedRows[Any], ...]:
        """What answers on their way hold."""
        return tuple(self._lent)

    def clear(self) -> None:
        """Drop all memories that lie idle: the next answer reads its prompt anew."""
        with self._lock:
            self._idle.clear()

    @property
    def nbytes(self) -> int:
        """Bytes of all that is idle or lent."""
        idle = [memory for memories in self._idle for memory in memories.values()]
        return sum(memory.nbytes for memory in (*idle, *self._lent))


def _worth(memories: Memories, prompts: Mapping[str, Sequence[int]]) -> tuple[int, int]:
    """Most of all what it holds of the prompts, then how little else would be lost."""
    return _shared(memories, prompts), -_held(memories, prompts)


def _goes_on(memories: Memories, prompts: Mapping[str, Sequence[int]]) -> bool:
    """Whether memories hold the conversation of these prompts: much of it, or one that began with a prompt of these."""
    if 2 * _shared(memories, prompts) >= _held(memories, prompts):
        return True
    # A long answer to a short prompt: asked again, or gone on with from elsewhere.
    asked = {role: memories[role].prompt for role in prompts}
    return all(asked[role] and common_prefix(asked[role], ids) == len(asked[role]) for role, ids in prompts.items())


def _shared(memories: Memories, prompts: Mapping[str, Sequence[int]]) -> int:
    return sum(common_prefix(memories[role].held, ids) for role, ids in prompts.items())


def _held(memories: Memories, prompts: Mapping[str, Sequence[int]]) -> int:
    return sum(len(memories[role].held) for role in prompts)
