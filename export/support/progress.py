"""Progress on stderr: one line for each step, with its seconds, and a bar within it on a terminal."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, TextIO, TypeAlias

from .interrupts import raise_if_interrupted

__all__ = ["Progress", "Report", "unheard"]

Report: TypeAlias = Callable[[int, int], None]
"""`report(done, total)`: how much of a step is done. Called between two parts of it, where an export may be stopped."""


def unheard(done: int, total: int) -> None:
    """A `Report` to nobody."""


class Progress:
    """Writes `base: export ... 39.1 s` to `stream` (default: stderr) and remembers the seconds."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream
        self._open = ""  # the label of a step whose line is not complete
        self.seconds: dict[str, float] = {}
        """Wall time of each finished step, by its label."""

    @contextlib.contextmanager
    def step(self, label: str, unit: str = "parts") -> Iterator[Report]:
        """Announce a step, and complete its line when it ends or fails.

        What it yields is told how many of its parts are done; on a terminal a bar then shows it, with the rate and the
        time that is left.
        """
        start = time.perf_counter()
        raise_if_interrupted()
        self._write(f"{label} ... ")
        self._open = label
        bar = _Bar(self._stream or sys.stderr, f"{label} ...", unit)
        try:
            yield bar
            raise_if_interrupted()
        except BaseException:
            self._complete(bar, label, "failed")
            raise
        self.seconds[label] = round(time.perf_counter() - start, 1)
        self._complete(bar, label, f"{self.seconds[label]} s")

    def note(self, text: str) -> None:
        """One line that is no step, for example a warning; within a step that one's line is ended before it."""
        self._write(f"\n{text}\n" if self._open else f"{text}\n")
        self._open = ""

    def _complete(self, bar: _Bar, label: str, end: str) -> None:
        drawn = bar.close()
        self._write(f"{end}\n" if self._open and not drawn else f"{label} ... {end}\n")
        self._open = ""

    def _write(self, text: str) -> None:
        stream = self._stream or sys.stderr
        # The work counts, not who hears of it: stderr may be closed, or a pipe whose reader has gone.
        if stream is not None:
            with contextlib.suppress(OSError, ValueError):
                stream.write(text)
                stream.flush()


class _Bar:
    """A `Report` that draws itself over the line of its step, if that is on a terminal."""

    def __init__(self, stream: TextIO | None, label: str, unit: str) -> None:
        self._stream = stream
        self._label = label
        self._unit = unit
        self._bar: Any = None

    def __call__(self, done: int, total: int) -> None:
        raise_if_interrupted()
        with contextlib.suppress(OSError, ValueError):
            if self._bar is None and self._stream is not None and self._stream.isatty():
                from tqdm import tqdm

                self._stream.write("\r")
                self._bar = tqdm(
                    desc=self._label, total=total, unit=f" {self._unit}", file=self._stream, leave=False, ncols=100
                )
            if self._bar is not None:
                self._bar.total = total
                self._bar.update(done - self._bar.n)

    def close(self) -> bool:
        """Take the bar away; returns whether there was one, which leaves an empty line."""
        if self._bar is None:
            return False
        with contextlib.suppress(OSError, ValueError):
            self._bar.close()
        return True
