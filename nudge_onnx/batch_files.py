"""The files of a batch: prompts in, a line each, and answers out, of which none is lost or written twice."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from nudge_onnx.bundle import sha256_of
from nudge_onnx.errors import NudgeError
from nudge_onnx.strict_json import parse

__all__ = ["BadLine", "BatchOutput", "Line", "read_lines"]

_NAMES = ("id", "prompt", "messages", "options")


@dataclass(frozen=True)
class Line:
    """One prompt to answer."""

    id: Any
    """What its answer is to be known by; by default the number of the line, from 1."""
    prompt: Any
    """A text, or a list of messages."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of `NudgedLM.stream` for this prompt alone."""
    more: Mapping[str, Any] = field(default_factory=dict)
    """What else was asked for and is there."""


@dataclass(frozen=True)
class BadLine:
    """A line that holds no prompt."""

    id: Any
    reason: str


def read_lines(path: Path, more: tuple[str, ...] = ()) -> Iterator[Line | BadLine]:
    """The lines of a file in order, without empty ones; `more` are names that they may have besides the usual ones.

    Raises `NudgeError` if the file cannot be read.
    """
    try:
        with path.open("rb") as stream:
            for number, data in enumerate(stream, 1):
                if data.strip():
                    yield _line(number, data, more)
    except OSError as error:
        raise NudgeError(f"{path} cannot be read ({error.strerror or error})") from None


def _line(number: int, data: bytes, more: tuple[str, ...]) -> Line | BadLine:
    name: Any = number
    try:
        value = parse(data.decode())
        if not isinstance(value, dict):
            raise ValueError("it is no object")
        name = value.get("id", number)
        names = (*_NAMES, *more)
        if unknown := [key for key in value if key not in names]:
            raise ValueError(f"there is no {unknown[0]!r}, only {', '.join(names)}")
        if ("prompt" in value) == ("messages" in value):
            raise ValueError("it must have either prompt or messages")
        options = value.get("options", {})
        if not isinstance(options, dict):
            raise ValueError("options must be an object")
        prompt = value.get("prompt", value.get("messages"))
        if not isinstance(prompt, str if "prompt" in value else list):
            raise ValueError("prompt must be a text, and messages a list")
        return Line(name, prompt, options, {key: value[key] for key in more if key in value})
    except ValueError as error:  # also what is not UTF-8
        return BadLine(name, f"line {number}: {error}")


class BatchOutput:
    """Answers in order, in a file beside the one that they are for until all of them are there.

    The file beside begins with a line about the run that it is of, so that only the same run goes on with it.
    """

    def __init__(self, stream: IO[bytes], done: int, failed: int) -> None:
        self._stream = stream
        self.done = done
        """Answers that are there."""
        self.failed = failed
        """Those of them that are errors."""

    @classmethod
    @contextmanager
    def opened(cls, target: Path, source: Path, run: Mapping[str, Any], *, overwrite: bool) -> Iterator[BatchOutput]:
        """Go on where an earlier run stopped, or begin; when the block ends without an error, `target` is there.

        `run` is all that answers depend on besides `source`. Raises `NudgeError` if `target` is there already, and if
        the file beside it is of another run.
        """
        beside = target.with_name(target.name + ".part")
        if overwrite:
            beside.unlink(missing_ok=True)
        elif target.exists():
            raise NudgeError(f"{target} is there already; name another file, or give --overwrite")
        head = {"run": {**run, "input": sha256_of(source)}}
        try:
            with beside.open("a+b") as stream:
                output = cls._going_on(stream, head, beside)
                yield output
                stream.flush()
                os.fsync(stream.fileno())
            _publish(beside, target)
        except OSError as error:
            raise NudgeError(f"{beside} cannot be written ({error.strerror or error})") from None

    @classmethod
    def _going_on(cls, stream: IO[bytes], head: Mapping[str, Any], path: Path) -> BatchOutput:
        stream.seek(0)
        known = stream.read()
        whole = known[: known.rfind(b"\n") + 1]  # a line that was cut short is written anew
        lines = whole.splitlines()
        if not lines and _encoded(head).startswith(known):  # nothing, or a head that was cut short
            stream.truncate(0)
            stream.write(_encoded(head))
            return cls(stream, 0, 0)
        try:
            same = bool(lines) and json.loads(lines[0]) == head
            failed = sum(json.loads(line)["error"] is not None for line in lines[1:])
        except (ValueError, KeyError, TypeError):
            same, failed = False, 0
        if not same:
            raise NudgeError(
                f"{path} is of another run: its input, bundle or options differ; delete it, or give --overwrite"
            )
        stream.truncate(len(whole))
        return cls(stream, len(lines) - 1, failed)

    def add(self, answer: Mapping[str, Any], *, failed: bool) -> None:
        """Write an answer, in one piece."""
        self._stream.write(_encoded(answer))
        self._stream.flush()
        self.done += 1
        self.failed += failed


def _encoded(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode() + b"\n"


def _publish(beside: Path, target: Path) -> None:
    """Have in `target` what stands in `beside` behind its first line."""
    clean = target.with_name(target.name + ".new")
    with beside.open("rb") as source, clean.open("wb") as stream:
        source.readline()
        while data := source.read(1 << 20):
            stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    clean.replace(target)
    beside.unlink()
