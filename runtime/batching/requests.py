"""What a text waits for: one pass by itself, or a row in each of some passes that it shares."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from ..inference.decoder import Decoder
from ..inference.outputs import Rows, joined
from ..sessions.model_session import Breaker

__all__ = ["PassRequest", "is_long"]

_MOMENT = 0.05
_LONG = 96


def is_long(rows: int) -> bool:
    """Whether a pass of so many rows takes as long as several steps."""
    return rows >= _LONG


@dataclass(eq=False)
class PassRequest:
    """Some ids to read behind a text, of which the last `rows` rows are wanted. One thread waits for it."""

    decoder: Decoder
    ids: Sequence[int]
    rows: int
    together: bool
    """Whether the ids are read one by one, each in a pass with others."""
    urgent: bool = False
    """Whether it is the beginning of an answer, for which a long pass of others is broken off."""
    since: float = field(default_factory=time.monotonic)
    """When it began to wait."""
    broken_off: bool = False
    """Whether its pass was broken off once; it is not again."""
    passed_over: int = 0
    """Passes that others were given while this waited."""
    withdrawn: bool = False
    """Whether nobody wants more of it than what is running."""
    _read: int = 0
    _found: list[Rows] = field(default_factory=list)
    _error: BaseException | None = None
    _over: bool = False
    _waiting: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._waiting.acquire()

    @property
    def next_id(self) -> int:
        """The id to read next, one by one."""
        return self.ids[self._read]

    def add(self, row: Rows) -> bool:
        """Take the row of the id that was read next; returns whether all are read, which ends the waiting."""
        self._read += 1
        if self._read > len(self.ids) - self.rows:
            self._found.append(row)
        if self._read == len(self.ids):
            self._end()
            return True
        return False

    @property
    def is_long(self) -> bool:
        """Whether its pass takes as long as several steps."""
        return not self.together and is_long(len(self.ids))

    def run(self, breaker: Breaker | None = None) -> bool:
        """Read all that is left in one pass of its own; whatever that raises, the waiting ends.

        Returns whether it did end: not if `breaker` broke the pass off, which then has read nothing.
        """
        left = list(self.ids[self._read :])
        try:
            # A pass with others that failed may have been counted in part. The decoder itself is not to forget what
            # it knows of the blocks that it is about to read.
            self.decoder.cache.rewind(self.decoder.length)
            self._found.append(self.decoder.pass_alone(left, min(self.rows, len(left)), breaker))
        except BaseException as error:
            if breaker is not None and breaker.used:
                self.broken_off = True
                return False
            self.fail(error)
        else:
            self._end()
        return True

    def fail(self, error: BaseException) -> None:
        """Nothing more will come: `wait` raises `error`."""
        self._error = error
        self._end()

    def wait(self) -> Rows:
        """The rows; raises what the passes raised."""
        self._waiting.acquire()
        if self._error is not None:
            raise self._error
        if len(self._found) == 1:
            return self._found[0]
        return joined(self._found) if self._found else []

    def outlive(self) -> None:
        """Wait until no pass reads for this any more, whatever interrupts that."""
        while not self._over:
            # Not for ever: an interrupt may have come when the waiting had ended and nobody knew yet.
            with suppress(KeyboardInterrupt):
                self._waiting.acquire(timeout=_MOMENT)

    def _end(self) -> None:
        if not self._over:
            self._over = True
            self._waiting.release()
