"""Who may begin: no more answers, and no larger caches, than were allowed. The others wait, the oldest first."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["Admission"]

# Whether anybody is at work is looked at this often, and whether an answer that waits is still wanted.
_SECONDS = 0.05


class Admission:
    """Lets answers begin while there is room.

    Where all that have begun stand still, because their callers take their time, the next one begins although there is
    none: the caller who would make room may be the one who waits.
    """

    def __init__(self, most_answers: int, most_bytes: int, at_work: Callable[[], int]) -> None:
        self._most_answers = most_answers
        self._most_bytes = most_bytes
        self._at_work = at_work
        self._changed = threading.Condition()
        self._waiting: list[object] = []
        self._begun: list[int] = []

    @contextmanager
    def admitted(self, nbytes: int, check: Callable[[], None]) -> Iterator[None]:
        """Wait for room for an answer whose caches may take `nbytes`, and hold it.

        What `check` raises while waiting ends that.
        """
        self._enter(nbytes, check)
        try:
            yield
        finally:
            with self._changed:
                self._begun.remove(nbytes)
                self._changed.notify_all()

    def _enter(self, nbytes: int, check: Callable[[], None]) -> None:
        ticket = object()
        with self._changed:
            self._waiting.append(ticket)
            try:
                while self._waiting[0] is not ticket or not self._has_room(nbytes):
                    check()
                    self._changed.wait(_SECONDS)
                self._begun.append(nbytes)
            finally:
                self._waiting.remove(ticket)
                self._changed.notify_all()

    def _has_room(self, nbytes: int) -> bool:
        fits = len(self._begun) < self._most_answers and sum(self._begun) + nbytes <= self._most_bytes
        return fits or self._at_work() == 0
