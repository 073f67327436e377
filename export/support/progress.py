"""Progress on stderr: one line for each step, with its seconds."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import TextIO

from .interrupts import raise_if_interrupted

__all__ = ["Progress"]


class Progress:
    """Writes `base: export ... 39.1 s` to `stream` (default: stderr) and remembers the seconds."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream
        self._open = ""  # the label of a step whose line is not complete
        self.seconds: dict[str, float] = {}
        """Wall time of each finished step, by its label."""

    @contextlib.contextmanager
    def step(self, label: str) -> Iterator[None]:
        """Announce a step, and complete its line when it ends or fails."""
        start = time.perf_counter()
        raise_if_interrupted()
        self._write(f"{label} ... ")
        self._open = label
        try:
            yield
            raise_if_interrupted()
        except BaseException:
            self._complete(label, "failed")
            raise
        self.seconds[label] = round(time.perf_counter() - start, 1)
        self._complete(label, f"{self.seconds[label]} s")

    def note(self, text: str) -> None:
        """One line that is no step, for example a warning; within a step that one's line is ended before it."""
        self._write(f"\n{text}\n" if self._open else f"{text}\n")
        self._open = ""

    def _complete(self, label: str, end: str) -> None:
        self._write(f"{end}\n" if self._open else f"{label} ... {end}\n")
        self._open = ""

    def _write(self, text: str) -> None:
        stream = self._stream or sys.stderr
        # The work counts, not who hears of it: stderr may be closed, or a pipe whose reader has gone.
        if stream is not None:
            with contextlib.suppress(OSError, ValueError):
                stream.write(text)
                stream.flush()
