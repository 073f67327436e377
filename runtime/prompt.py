"""Prompts: a template rendered over messages, and the ids of prompt plus answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from jinja2 import Template, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from nudge_onnx.bundle import Prompt
from nudge_onnx.errors import BundleError, NudgeError

from .tokenizer import Tokenizer

__all__ = ["Message", "PromptIds", "as_messages", "render"]

Message = Mapping[str, str]
"""`{"role": "system" | "user" | "assistant", "content": ...}`."""

_ROLES = ("system", "user", "assistant")
# Text that is certain not to change any more is not encoded again; its last characters still may change.
_SETTLE_AFTER = 128
_STILL_OPEN = 48
# At a hand-over the same text is asked for more than once: as it stands, and as a draft that turned out to be right.
_REMEMBERED = 16


def as_messages(prompt: str | Sequence[Message], system_prompt: str) -> tuple[list[dict[str, str]], str]:
    """The messages of a conversation without its system message, and the system prompt that holds.

    Raises `NudgeError` for an empty conversation or a message without role or content.
    """
    if isinstance(prompt, str):
        return [{"role": "user", "content": prompt}], system_prompt
    messages = []
    for message in prompt:
        if not isinstance(message, Mapping) or not isinstance(message.get("content"), str):
            raise NudgeError('a message must be {"role": ..., "content": text}')
        if message.get("role") not in _ROLES:
            raise NudgeError(f"unknown role {message.get('role')!r}; use one of {', '.join(_ROLES)}")
        if message["role"] == "system":
            system_prompt = message["content"]
        else:
            messages.append({"role": message["role"], "content": message["content"]})
    if not messages:
        raise NudgeError("the conversation has no message; give at least one of role user")
    return messages, system_prompt


def render(prompt: Prompt, messages: Sequence[Message], system_prompt: str) -> str:
    """The prompt's text. Templates run in a sandbox and see messages and special tokens only.

    Raises `BundleError` if the template fails or rejects the messages.
    """
    with_system = [{"role": "system", "content": system_prompt}, *messages] if system_prompt else list(messages)
    try:
        return _compile(prompt.template).render(messages=with_system, add_generation_prompt=True, **prompt.tokens)
    except (TemplateError, TypeError, ValueError) as error:
        raise BundleError(f"the prompt template refused the conversation: {str(error).splitlines()[0]}") from None


@lru_cache(maxsize=16)
def _compile(template: str) -> Template:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals["raise_exception"] = _reject
    environment.globals["strftime_now"] = lambda pattern: datetime.now(tz=UTC).strftime(pattern)
    return environment.from_string(template)


def _reject(message: str) -> Any:
    raise TemplateError(message)


class PromptIds:
    """The ids of prompt + text, where special tokens count in the prompt only.

    `encode(text)` equals encoding the whole string anew; what stands safely before the end is remembered.
    """

    def __init__(self, tokenizer: Tokenizer, text: str, add_prefix: bool) -> None:
        self._tokenizer = tokenizer
        self.ids, offsets = tokenizer.encode_prompt(text, add_prefix)
        """Ids of the prompt alone."""
        # Up to its last special token a prompt never changes; the rest may join with the text that follows.
        fixed = max((i + 1 for i, token in enumerate(self.ids) if token in tokenizer.special_ids), default=0)
        self._fixed = self.ids[:fixed]
        self._open = text[offsets[fixed - 1][1] :] if fixed else text
        self._known: dict[str, list[int]] = {}
        self._lead = self._find_lead(self.ids[fixed:])
        self._cut = 0
        self.settle("")

    def encode(self, text: str) -> list[int]:
        """Ids of prompt + `text`. Each call's text must start with what `settle` was last given."""
        return self._fixed + self.plain(self._open + text[self._cut :])

    def settle(self, text: str) -> None:
        """Say that the answer now starts with `text` for good, so that later calls are quick."""
        tail = self._open + text[self._cut :]
        if len(tail) < _SETTLE_AFTER or self._lead:
            return
        whole = self.plain(tail)
        for at in _word_starts(tail, len(tail) - _STILL_OPEN):
            before, after = self.plain(tail[:at]), self.plain(tail[at:])
            if before + after == whole:
                self._fixed, self._open, self._cut = self._fixed + before, tail[at:], len(text)
                return

    def plain(self, text: str) -> list[int]:
        """Ids of `text` alone, as inside a longer text."""
        if not text:
            return []
        known = self._known.get(text)
        if known is None:
            if len(self._known) == _REMEMBERED:
                self._known.clear()
            skipped = len(self._tokenizer.encode(self._lead)) if self._lead else 0
            known = self._known[text] = self._tokenizer.encode(self._lead + text)[skipped:]
        return known

    def _find_lead(self, expected: list[int]) -> str:
        """What to encode before a text that does not start a string, for tokenizers that mark a string's start."""
        if self._open and self._tokenizer.encode(self._open) != expected:
            return "\n"
        return ""


def _word_starts(text: str, end: int) -> list[int]:
    """Up to eight places before `end` where a space or newline ends and a word begins, the latest first."""
    starts: list[int] = []
    for at in range(min(end, len(text) - 1), 1, -1):
        if text[at] == " " and text[at - 1].isalnum():
            starts.append(at)
            if len(starts) == 8:
                break
    return starts
