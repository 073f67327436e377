"""The answer as text: bytes become characters, and never half of one."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ..choosing.choosers import Choice
from .results import Piece, SourceName

__all__ = ["OpenTokens", "Transcript", "open_bytes", "to_text"]


def to_text(data: bytes) -> tuple[str, int]:
    """Text of `data` (U+FFFD for what is no UTF-8), without a character that has only begun, and that one's bytes."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text = decoder.decode(data)
    return text, len(decoder.getstate()[0])


def open_bytes(data: bytes) -> int:
    """How many bytes at the end of `data` begin a character and do not finish it (0 to 3)."""
    return to_text(data[-4:])[1] if data and data[-1] >= 0x80 else 0


@dataclass
class Transcript:
    """T, the answer so far: one text shared by both models, and its tokens by whoever wrote them."""

    limit: int
    """The most tokens it may have."""
    text: str = ""
    ids: list[int] = field(default_factory=list)
    """Every token in order; the ids of one vocabulary only where both models share it."""

    @property
    def remaining(self) -> int:
        """How many more tokens it may have."""
        return self.limit - len(self.ids)

    @property
    def full(self) -> bool:
        """Whether the limit is reached."""
        return self.remaining <= 0

    def append(
        self,
        source: SourceName,
        ids: Sequence[int],
        choices: Sequence[Choice | None],
        text: str,
        bytes_of: Callable[[int], bytes],
    ) -> Piece:
        """Add tokens, what was found of each, and their `text`. Returns what was added.

        What passes the limit is cut off, with its text.
        """
        if len(ids) > self.remaining:
            ids, choices = ids[: self.remaining], choices[: self.remaining]
            # Where the text was spelt anew, a tokenizer that normalises may write another; it stays the text's own.
            text = text[: len(to_text(b"".join(map(bytes_of, ids)))[0])]
        self.ids += ids
        self.text += text
        top1 = tuple(choice and choice.top1 for choice in choices)
        logprobs = tuple(choice and choice.logprobs for choice in choices)
        return Piece(text, source, tuple(ids), top1, logprobs if any(logprobs) else ())


class OpenTokens:
    """Tokens that one model writes one by one, kept back until they complete a character."""

    def __init__(self, source: SourceName, bytes_of: Callable[[int], bytes]) -> None:
        self._source = source
        self._bytes_of = bytes_of
        self._ids: list[int] = []
        self._choices: list[Choice] = []

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, choice: Choice, answer: Transcript) -> Piece | None:
        """Add a choice's token; what is complete, or reaches the answer's limit, is appended to it and returned."""
        self._ids.append(choice.token)
        self._choices.append(choice)
        data = b"".join(map(self._bytes_of, self._ids))
        if open_bytes(data) and len(self._ids) < answer.remaining:
            return None
        piece = answer.append(self._source, self._ids, self._choices, to_text(data)[0], self._bytes_of)
        self._ids, self._choices = [], []
        return piece

    def give_up(self, answer: Transcript) -> Piece | None:
        """Drop a character that will not be completed, with the tokens that wrote nothing else; append the rest."""
        data = b"".join(map(self._bytes_of, self._ids))
        begun = open_bytes(data)
        while begun and len(written := self._bytes_of(self._ids[-1])) <= begun:
            begun -= len(written)
            self._ids.pop()
            self._choices.pop()
        if not self._ids:
            return None
        piece = answer.append(self._source, self._ids, self._choices, to_text(data)[0], self._bytes_of)
        self._ids, self._choices = [], []
        return piece
