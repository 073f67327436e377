"""Answers at several gammas, and what each setting comes to."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

from nudge_onnx.choices import GateName, Tail
from nudge_onnx.errors import NudgeError
from nudge_onnx.runtime.lm import NudgedLM, PromptLike
from nudge_onnx.runtime.many import answers
from nudge_onnx.runtime.nudging.results import Answer
from nudge_onnx.runtime.stream import Stream

from .agreement import agrees

__all__ = ["Prompt", "Setting", "measured"]


@dataclass(frozen=True)
class Prompt:
    """A prompt, and what its answer should say, if that is known."""

    prompt: PromptLike
    reference: str | None = None


@dataclass(frozen=True)
class Setting:
    """One gate with one gamma, on all prompts."""

    gate: GateName
    gamma: float
    gate_temperature: float
    tail: Tail
    nudging_ratio: float
    """The nudging model's share of all tokens."""
    nudging_tokens: float
    """Tokens of the nudging model in an answer, on average."""
    tokens_per_second: float
    """Tokens of all answers over the time that they took together, prompts included."""
    ended: float
    """Share of the answers that ended by themselves."""
    agreement: float | None
    """Share of the answers that agree with their reference; `None` where no prompt has one."""

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready view."""
        return asdict(self)


def measured(
    lm: NudgedLM,
    prompts: Sequence[Prompt],
    settings: Sequence[tuple[GateName, float]],
    options: Mapping[str, Any],
    *,
    gate_temperature: float = 1.0,
    tail: Tail = "draft",
    progress: Callable[[Answer], None] = lambda _answer: None,
) -> Generator[Setting, None, None]:
    """What each setting, a gate and its gamma, comes to, one after the other.

    `options` are keyword arguments of `NudgedLM.stream`; `progress` hears of each answer. Raises `NudgeError` for a
    prompt that cannot be answered.
    """
    for gate, gamma in settings:
        lm.pool.clear()
        begun = time.perf_counter()
        found: list[Answer] = []
        asked = {**options, "gate": gate, "gamma": gamma, "gate_temperature": gate_temperature, "tail": tail}
        begin = [_begin(lm, prompt.prompt, asked) for prompt in prompts]
        with closing(answers(begin, lm.slots)) as written:
            for answer in written:
                _check(answer, len(found) + 1)
                found.append(answer)
                progress(answer)
        yield _setting((gate, gamma, gate_temperature, tail), prompts, found, time.perf_counter() - begun)


def _begin(lm: NudgedLM, prompt: PromptLike, options: Mapping[str, Any]) -> Callable[[], Stream]:
    return lambda: lm.stream(prompt, **options)


def _check(answer: Answer, number: int) -> None:
    if answer.error is not None:
        raise NudgeError(f"prompt {number} cannot be answered: {answer.error}")


def _setting(
    asked: tuple[GateName, float, float, Tail], prompts: Sequence[Prompt], found: Sequence[Answer], seconds: float
) -> Setting:
    tokens = {role: sum(answer.tokens[role] for answer in found) for role in ("base", "nudge")}
    total = max(1, sum(tokens.values()))
    known = [
        agrees(answer.text, prompt.reference)
        for answer, prompt in zip(found, prompts, strict=True)
        if prompt.reference is not None
    ]
    return Setting(
        *asked,
        tokens["nudge"] / total,
        tokens["nudge"] / len(found),
        sum(tokens.values()) / seconds,
        sum(answer.finish_reason == "stop" for answer in found) / len(found),
        sum(known) / len(known) if known else None,
    )
