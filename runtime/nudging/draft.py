"""A draft of the nudging model, and where the base model may take over from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from ..choosing.choosers import Choice
from ..text.tokenizer import Tokenizer
from .transcript import to_text

__all__ = ["START", "Draft", "HandOver", "token_hand_overs", "word_hand_overs"]


@dataclass(frozen=True)
class HandOver:
    """A place in a draft where the base model may take over, behind `chars` characters and `tokens` whole tokens."""

    chars: int
    tokens: int
    inside: bool = False
    """Whether it falls inside the token that follows."""


START = HandOver(0, 0)
"""The hand-over before a draft's first token."""


@dataclass(frozen=True)
class Draft:
    """What the nudging model would write next."""

    ids: tuple[int, ...]
    choices: tuple[Choice, ...]
    """What the model found of each of `ids`."""
    ended: bool
    """Whether the model reached its end token."""
    tokenizer: Tokenizer

    @cached_property
    def text(self) -> str:
        """The draft's text, without a character that it only begins."""
        return to_text(b"".join(map(self.tokenizer.bytes_of, self.ids)))[0]

    @cached_property
    def ends(self) -> list[int | None]:
        """Characters of the text after each token; `None` after one that ends inside a character."""
        ends: list[int | None] = []
        data = b""
        for token in self.ids:
            data += self.tokenizer.bytes_of(token)
            text, pending = to_text(data)
            ends.append(None if pending else len(text))
        return ends

    @property
    def whole(self) -> HandOver:
        """The hand-over behind its last token."""
        return HandOver(len(self.text), len(self.ids))

    def up_to(self, hand_over: HandOver) -> tuple[Sequence[int], Sequence[Choice | None], str]:
        """Ids, what was found of them, and text before `hand_over`; a token that the hand-over splits is spelt anew."""
        text = self.text[: hand_over.chars]
        if hand_over.inside:
            ids = self.tokenizer.encode_inside(text)
            return ids, [None] * len(ids), text
        return self.ids[: hand_over.tokens], self.choices[: hand_over.tokens], text


def word_hand_overs(draft: Draft) -> list[HandOver]:
    """Hand-overs of policy `word`: before the one space that leads each non-empty word but the first."""
    hand_overs = []
    chars = 0
    seen_word = False
    for word in draft.text.split(" "):
        if word and seen_word:
            hand_overs.append(_at(draft, chars - 1))
        seen_word = seen_word or bool(word)
        chars += len(word) + 1
    return hand_overs


def token_hand_overs(draft: Draft) -> list[HandOver]:
    """Hand-overs of policy `token`: before each token but the first, unless that is inside a character."""
    return [HandOver(chars, tokens) for tokens, chars in enumerate(draft.ends[:-1], start=1) if chars is not None]


def _at(draft: Draft, chars: int) -> HandOver:
    if chars in draft.ends:
        # Tokens that write nothing belong to what stands before the hand-over.
        last = max(i for i, end in enumerate(draft.ends) if end == chars)
        return HandOver(chars, last + 1)
    whole = sum(1 for end in draft.ends if end is not None and end < chars)
    return HandOver(chars, whole, inside=True)
