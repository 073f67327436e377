"""Progress on stderr: one line for each step, with its seconds; within it a bar on a terminal, and lines elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, TextIO, TypeAlias

from .interrupts import raise_if_interrupted

__all__ = ["Progress", "Report", "unheard"]

SECONDS_A_LINE = 15.0
"""How often a long step says how far it is where there is no terminal."""

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

        What it yields is told how many of its parts are done. A bar on a terminal, or a line now and then elsewhere,
        then shows it with the rate and the time that is left.
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
    """A `Report` that draws itself over the line of its step on a terminal, and below it elsewhere."""

    def __init__(self, stream: TextIO | None, label: str, unit: str) -> None:
        self._stream = stream
        self._label = label
        self._unit = unit
        self._bar: Any = None
        self._started = self._said = time.perf_counter()
        self._has_lines = False

    def __call__(self, done: int, total: int) -> None:
        raise_if_interrupted()
        if self._stream is None:
            return
        with contextlib.suppress(OSError, ValueError):
            if not self._stream.isatty():
                self._line(self._stream, done, total)
            elif self._bar is None:
                from tqdm import tqdm

                self._stream.write("\r")
                self._bar = tqdm(
                    desc=self._label, total=total, unit=f" {self._unit}", file=self._stream, leave=False, ncols=100
                )
            if self._bar is not None:
                self._bar.total = total
                self._bar.update(done - self._bar.n)

    def _line(self, stream: TextIO, done: int, total: int) -> None:
        now = time.perf_counter()
        if now - self._said < SECONDS_A_LINE:
            return
        from tqdm import tqdm

        meter = tqdm.format_meter(done, total, now - self._started, unit=f" {self._unit}", ncols=80)
        stream.write(f"  {meter}\n" if self._has_lines else f"\n  {meter}\n")
        stream.flush()
        self._said, self._has_lines = now, True

    def close(self) -> bool:
        """Take the bar away; returns whether there was one, or lines, which leaves an empty line."""
        if self._bar is None:
            return self._has_lines
        with contextlib.suppress(OSError, ValueError):
            self._bar.close()
        return True
