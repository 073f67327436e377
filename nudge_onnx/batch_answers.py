"""The answers to the lines of a batch, by the process that asks."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import closing
from typing import Any

from nudge_onnx.batch_files import BadLine, Line
from nudge_onnx.errors import NudgeError
from nudge_onnx.runtime.choosing.sampling import Sampling
from nudge_onnx.runtime.lm import NudgedLM
from nudge_onnx.runtime.many import answers
from nudge_onnx.runtime.stream import Stream

__all__ = ["written"]


def written(
    lm: NudgedLM, lines: Iterable[Line | BadLine], arguments: Mapping[str, Any]
) -> Generator[Mapping[str, Any], None, None]:
    """The answers in the order of their lines, as `Answer.to_dict` gives them; `lm.slots` are written at a time.

    `arguments` are keyword arguments of `NudgedLM.stream`, beside those that a line has of its own.
    """
    with closing(answers((_begin(lm, line, arguments) for line in lines), lm.slots)) as found:
        for answer in found:
            yield answer.to_dict()


def _begin(lm: NudgedLM, line: Line | BadLine, arguments: Mapping[str, Any]) -> Callable[[], Stream]:
    def begin() -> Stream:
        if isinstance(line, BadLine):
            raise NudgeError(line.reason)
        return lm.stream(line.prompt, **{**arguments, **_own_options(line.options)})

    return begin


def _own_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """What a line asks for, with its samplings as objects."""
    own = dict(options)
    for name in ("sampling", "nudge_sampling"):
        if isinstance(own.get(name), Mapping):
            try:
                own[name] = Sampling(**own[name])
            except TypeError:
                raise NudgeError(f"{name} has a name that there is none of: {', '.join(own[name])}") from None
    return own
