"""What an export says on stderr: lines, and a bar on a terminal."""

from __future__ import annotations

import io
import re

import pytest

from nudge_onnx.errors import NudgeError
from nudge_onnx.export.support import progress as progress_module
from nudge_onnx.export.support.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def run(stream: io.StringIO, parts: int = 3) -> Progress:
    progress = Progress(stream)
    with progress.step("base: quantisation", "matrices") as report:
        for part in range(parts):
            report(part, parts)
    return progress


def test_a_file_gets_one_line_for_each_step() -> None:
    stream = io.StringIO()
    progress = run(stream)
    assert stream.getvalue() == f"base: quantisation ... {progress.seconds['base: quantisation']} s\n"


def test_a_terminal_gets_a_bar_that_the_line_replaces() -> None:
    stream = Terminal()
    progress = run(stream)
    written = stream.getvalue()
    assert re.search(r"base: quantisation \.\.\.:\s+0%\|.*\| 0/3 \[00:00<\?, \? matrices/s\]", written)
    # What a terminal shows in the end: after each carriage return the line is written over.
    assert written.split("\r")[-1] == f"base: quantisation ... {progress.seconds['base: quantisation']} s\n"


def test_a_step_without_parts_has_no_bar() -> None:
    stream = Terminal()
    assert run(stream, parts=0).seconds.keys() == {"base: quantisation"}
    assert "%" not in stream.getvalue()


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_a_step_that_fails_says_so(stream: io.StringIO) -> None:
    progress = Progress(stream)

    def fail() -> None:
        with progress.step("nudge: export") as report:
            report(1, 2)
            raise NudgeError("no")

    with pytest.raises(NudgeError):
        fail()
    assert stream.getvalue().split("\r")[-1] == "nudge: export ... failed\n"
    assert progress.seconds == {}


def test_nobody_need_listen() -> None:
    stream = Terminal()
    stream.close()
    assert run(stream).seconds.keys() == {"base: quantisation"}


def test_a_long_step_says_in_a_file_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_module, "SECONDS_A_LINE", 0.0)
    stream = io.StringIO()
    progress = run(stream)
    first, *within, last = stream.getvalue().splitlines()
    assert first == "base: quantisation ... "
    assert [re.search(r"(\d)/3 \[", line).group(1) for line in within] == ["0", "1", "2"]
    assert last == f"base: quantisation ... {progress.seconds['base: quantisation']} s"
