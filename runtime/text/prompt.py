"""Prompts: the messages of a conversation, and the ids of prompt plus answer."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from nudge_onnx.arguments import integer, must_be
from nudge_onnx.errors import NudgeError

from .blocks import whole_blocks
from .prefix import common_prefix
from .templates import Message
from .tokenizer import Tokenizer

__all__ = ["Message", "PromptIds", "RawPrompt", "as_messages", "unicode_text"]

_ROLES = ("system", "user", "assistant")
# Text that is certain not to change any more is not encoded again; its last characters still may change.
_SETTLE_AFTER = 128
_STILL_OPEN = 48
# At a hand-over the same text is asked for more than once: as it stands, and as a draft that turned out to be right.
_REMEMBERED = 16


def as_messages(prompt: str | Sequence[Message], system_prompt: str | None = None) -> list[dict[str, str]]:
    """The messages of a conversation, as they were given, behind a system prompt if they hold none.

    `system_prompt` may be empty: then the templates see an empty system message, where one may have a text of its own
    otherwise. Raises `NudgeError` for an empty
    conversation, a message without role or content, and for text that is not Unicode.
    """
    if not isinstance(prompt, str | Sequence):
        raise NudgeError(f"prompt must be a text or a list of messages, not {type(prompt).__name__}")
    if isinstance(prompt, str):
        messages = [{"role": "user", "content": unicode_text(prompt, "the prompt")}]
    else:
        messages = [_message(message, f"message {number}") for number, message in enumerate(prompt, 1)]
    if all(message["role"] == "system" for message in messages):
        raise NudgeError("the conversation has no message; give at least one of role user")
    if any(message["role"] == "system" for message in messages):
        return messages
    return messages if system_prompt is None else [_system(system_prompt), *messages]


def _message(message: Message, name: str) -> dict[str, str]:
    if not isinstance(message, Mapping) or not isinstance(message.get("content"), str):
        raise NudgeError('a message must be {"role": ..., "content": text}')
    role = message.get("role")
    if role not in _ROLES:
        raise NudgeError(f"unknown role {role!r}; use one of {', '.join(_ROLES)}")
    return {"role": role, "content": unicode_text(message["content"], name)}


def _system(text: str) -> dict[str, str]:
    if not isinstance(text, str):
        raise NudgeError(f"system_prompt must be a text or None, not {text!r}")
    return {"role": "system", "content": unicode_text(text, "the system prompt")}


def unicode_text(text: str, name: str) -> str:
    """The text, if it can be encoded; raises `NudgeError` for a lone surrogate in what `name` says it is."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise NudgeError(
            f"{name} is not Unicode text: character {error.start + 1} is {text[error.start]!a}, a lone surrogate, "
            "as a byte becomes that is not UTF-8; give the text in UTF-8"
        ) from None
    return text


@dataclass(frozen=True)
class RawPrompt:
    """A text to go on from as it stands, without a chat template: `RawPrompt("Once upon a time")`.

    Each model reads it behind what its tokenizer puts before a text (BOS). `ids`, of the base model's tokenizer or of
    the only one that takes part, are read as they are; another tokenizer reads their text.
    Raises `NudgeError` for what is neither a text nor ids.
    """

    text: str = ""
    ids: Sequence[int] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.text, str):
            raise must_be("text", "a text", self.text)
        unicode_text(self.text, "the prompt")
        if self.ids is not None:
            if self.text or not isinstance(self.ids, Sequence) or isinstance(self.ids, str | bytes):
                raise must_be("ids", "a list of token ids, without a text beside it", self.ids)
            object.__setattr__(self, "ids", tuple(integer("a token id", token, 0) for token in self.ids))

    def text_of(self, tokenizer: Tokenizer) -> str:
        """The prompt as text, where `tokenizer` is the one of its ids."""
        if self.ids is None:
            return self.text
        return b"".join(map(tokenizer.bytes_of, self.ids)).decode(errors="replace")


class PromptIds:
    """The ids of prompt + text, where special tokens count in the prompt only.

    `encode(text)` equals encoding the whole string anew; what stands safely before the end is remembered.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        text: str,
        add_prefix: bool,
        hidden: Mapping[str, str] | None = None,
        answers: Collection[tuple[int, int]] = (),
        *,
        ids: Sequence[int] | None = None,
    ) -> None:
        """`hidden` are characters of `text` that stand for others: see `Tokenizer.encode_prompt`.

        `answers` are the characters of `text` that earlier answers wrote. `ids` are read instead of a text, and no text
        behind them joins with their last. Raises `NudgeError` for an id that the tokenizer has none of.
        """
        self._tokenizer = tokenizer
        if ids is None:
            self.ids, offsets = tokenizer.encode_prompt(text, add_prefix, hidden)
            text = text.translate({ord(mark): char for mark, char in (hidden or {}).items()})
            # Up to its last special token a prompt never changes; the rest may join with the text that follows.
            fixed = max((i + 1 for i, token in enumerate(self.ids) if token in tokenizer.special_ids), default=0)
        else:
            self.ids, offsets, text = _known_ids(tokenizer, ids), [(at, at + 1) for at in range(len(ids))], ""
            fixed = len(ids)
        self._fixed = self.ids[:fixed]
        self._open = text[offsets[fixed - 1][1] :] if fixed else text
        # Where an answer begins: behind so many bytes that the ids from here on write.
        self._start = fixed, sum(len(tokenizer.bytes_of(token)) for token in self.ids[fixed:])
        self._known: dict[str, list[int]] = {}
        self._lead = self._find_lead(self.ids[fixed:])
        self._cut = 0
        self.settle("")
        settled = min(common_prefix(self._fixed, self.ids), len(self.ids) - 1)
        self.blocks = whole_blocks(settled, offsets, answers)
        """Those that are read in one pass each."""

    def answer_tokens(self, ids: Sequence[int]) -> list[int | bytes]:
        """Of `ids`, which are this prompt and an answer: the answer's tokens.

        Of a token that also writes the end of the prompt, only the answer's bytes.
        """
        first, inside = self._start
        tokens: list[int | bytes] = []
        while inside > 0 and first < len(ids):
            written = self._tokenizer.bytes_of(ids[first])
            if len(written) > inside:
                tokens.append(written[inside:])
            inside -= len(written)
            first += 1
        return tokens + list(ids[first:])

    def encode(self, text: str) -> list[int]:
        """Ids of prompt + `text`. Each call's text must start with what `settle` was last given."""
        return self._fixed + self.plain(self._open + text[self._cut :])

    def settle(self, text: str) -> None:
        """Say that the answer now starts with `text` for good, so that later calls are quick."""
        tail = self._open + text[self._cut :]
        if len(tail) < _SETTLE_AFTER:
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
        if not self._open:
            return self._tokenizer.lead
        return "\n" if self._tokenizer.encode(self._open) != expected else ""


def _known_ids(tokenizer: Tokenizer, ids: Sequence[int]) -> list[int]:
    beyond = next((token for token in ids if token >= tokenizer.size), None)
    if beyond is not None:
        raise NudgeError(f"the prompt holds the token id {beyond}, and the model has {tokenizer.size} of them")
    return list(ids)


def _word_starts(text: str, end: int) -> list[int]:
    """Up to eight places before `end` where a space or newline ends and a word begins, the latest first."""
    starts: list[int] = []
    for at in range(min(end, len(text) - 1), 1, -1):
        if text[at] == " " and text[at - 1].isalnum():
            starts.append(at)
            if len(starts) == 8:
                break
    return starts
