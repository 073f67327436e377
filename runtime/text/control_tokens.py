"""Text of messages that spells control tokens.

A chat template writes special tokens into the prompt, and the tokenizer finds them there by their spelling. So whoever
writes `<|im_end|>` into a message ends his turn and begins another one. Here such text is refused, or read as text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from nudge_onnx.bundle import Prompt
from nudge_onnx.choices import ControlTokens
from nudge_onnx.errors import NudgeError

from .blocks import answer_spans
from .prompt import PromptIds
from .templates import Message, render, unused_characters
from .tokenizer import Tokenizer

__all__ = ["prompt_ids", "raw_prompt_ids"]

_RAW_TEMPLATE = "{{ messages[0]['content'] }}"


def prompt_ids(
    prompt: Prompt, messages: Sequence[Message], tokenizer: Tokenizer, role: str, control_tokens: ControlTokens
) -> PromptIds:
    """The ids of a model's prompt: `allow` recognises special tokens everywhere, as transformers does.

    With `refuse` and `escape` the template alone writes special tokens. Text of messages that spells one raises
    `NudgeError`, or is read as any other text. Raises `BundleError` where the template refuses the messages.
    """
    if control_tokens == "allow":
        text = render(prompt, messages)
        return PromptIds(tokenizer, text, prompt.add_bos, answers=answer_spans(text, messages))
    if control_tokens == "refuse":
        _refuse(messages, tokenizer, role)
    marks = _Marks(tokenizer, "".join((prompt.template, *prompt.tokens.values(), *(m["content"] for m in messages))))
    hidden = [{**message, "content": marks.hide(message["content"])} for message in messages]
    text = render(prompt, hidden)
    return PromptIds(tokenizer, text, prompt.add_bos, marks.stand_for, answer_spans(text, hidden))


def raw_prompt_ids(
    prompt: Prompt, text: str, tokenizer: Tokenizer, role: str, control_tokens: ControlTokens
) -> PromptIds:
    """The ids of a text that no template stands around, behind what the tokenizer puts before one; see `prompt_ids`."""
    plain = replace(prompt, template=_RAW_TEMPLATE, add_bos=True)
    return prompt_ids(plain, [{"role": "user", "content": text}], tokenizer, role, control_tokens)


def _refuse(messages: Sequence[Message], tokenizer: Tokenizer, role: str) -> None:
    for message in messages:
        for start, end in tokenizer.special_spans(message["content"]):
            raise NudgeError(
                f"a message of role {message['role']} spells {message['content'][start:end]!r}, a control token of the "
                f"{role} model; take it out, or set control_tokens to escape"
            )


class _Marks:
    """Characters that no text of a prompt holds, put where a text begins to spell a special token."""

    def __init__(self, tokenizer: Tokenizer, texts: str) -> None:
        self._tokenizer = tokenizer
        self._free = unused_characters(texts)
        self._of: dict[str, str] = {}

    @property
    def stand_for(self) -> Mapping[str, str]:
        """Marks, and what each stands for."""
        return {mark: char for char, mark in self._of.items()}

    def hide(self, text: str) -> str:
        """The text with a mark in every special token, and in what could become a part of one beside the template's."""
        for _ in text:  # each round marks a character at least
            spans = self._tokenizer.special_spans(text)
            if not spans:
                break
            for start, end in spans:
                token = text[start:end]
                text = self._put(text, start + (len(token) - len(token.lstrip()) if token.strip() else 0))
        for length in range(self._tokenizer.longest_special - 1, 0, -1):
            # Templates trim what they are given.
            inner = text.strip()
            if len(inner) >= length and self._tokenizer.begins_special(inner[-length:]):
                text = self._put(text, len(text.rstrip()) - length)
                inner = text.strip()
            if len(inner) >= length and self._tokenizer.ends_special(inner[:length]):
                text = self._put(text, len(text) - len(text.lstrip()))
        return text

    def _put(self, text: str, at: int) -> str:
        char = text[at]
        if char not in self._of:
            self._of[char] = next(self._free)
        return text[:at] + self._of[char] + text[at + 1 :]
