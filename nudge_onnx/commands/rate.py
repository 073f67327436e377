"""How far a batch of answers is, on stderr: one line that changes on a terminal, and a line now and then elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from types import TracebackType

__all__ = ["Rate"]

_SECONDS_A_LINE = 15.0


class Rate:
    """Counts answers and their tokens."""

    def __init__(self, total: int | None, done: int) -> None:
        """`done` of `total` answers were there before; `None`: nobody knows how many there will be."""
        self._total = total
        self._done = self._before = done
        self._tokens = 0
        self._started = self._said = time.monotonic()
        self._terminal = sys.stderr is not None and sys.stderr.isatty()

    def add(self, tokens: int) -> None:
        """Count an answer."""
        self._done += 1
        self._tokens += tokens
        if self._terminal or time.monotonic() - self._said >= _SECONDS_A_LINE:
            self._say(self._terminal)

    def __enter__(self) -> Rate:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._total is not None or self._done:
            self._say(False)

    def _say(self, again: bool) -> None:
        seconds = max(time.monotonic() - self._started, 1e-9)
        of = "" if self._total is None else f" of {self._total}"
        text = f"{self._done}{of} answers, {self._tokens / seconds:.1f} tokens/s"
        if self._total is not None and self._done < self._total:
            left = (self._total - self._done) * seconds / max(1, self._done - self._before)
            text += f", {_clock(left)} left"
        self._said = time.monotonic()
        with contextlib.suppress(OSError, ValueError, AttributeError):
            sys.stderr.write(f"\r{text:<70}" if again else f"\r{text:<70}\n" if self._terminal else f"{text}\n")
            sys.stderr.flush()


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02}"
