"""A draft of the nudging model, and where the base model may take over from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from .text import to_text
from .tokenizer import Tokenizer

__all__ = ["START", "Cut", "Draft", "token_cuts", "word_cuts"]


@dataclass(frozen=True)
class Cut:
    """A checkpoint of a draft: the draft up to it has `chars` characters and `tokens` whole tokens."""

    chars: int
    tokens: int
    inside: bool = False
    """Whether it falls inside the token that follows."""


START = Cut(0, 0)
"""The cut before a draft's first token."""


@dataclass(frozen=True)
class Draft:
    """What the nudging model would write next."""

    ids: tuple[int, ...]
    top1: tuple[float, ...]
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
    def whole(self) -> Cut:
        """The cut behind its last token."""
        return Cut(len(self.text), len(self.ids))

    def up_to(self, cut: Cut) -> tuple[Sequence[int], Sequence[float | None], str]:
        """Ids, top-1 probabilities and text before `cut`; a token that the cut splits is spelt anew."""
        text = self.text[: cut.chars]
        if cut.inside:
            ids = self.tokenizer.encode_inside(text)
            return ids, [None] * len(ids), text
        return self.ids[: cut.tokens], self.top1[: cut.tokens], text


def word_cuts(draft: Draft) -> list[Cut]:
    """Checkpoints of policy `word`: before the one space that leads each non-empty word but the first."""
    cuts = []
    chars = 0
    seen_word = False
    for word in draft.text.split(" "):
        if word and seen_word:
            cuts.append(_at(draft, chars - 1))
        seen_word = seen_word or bool(word)
        chars += len(word) + 1
    return cuts


def token_cuts(draft: Draft) -> list[Cut]:
    """Checkpoints of policy `token`: before each token but the first, unless that is inside a character."""
    return [Cut(chars, tokens) for tokens, chars in enumerate(draft.ends[:-1], start=1) if chars is not None]


def _at(draft: Draft, chars: int) -> Cut:
    if chars in draft.ends:
        # Tokens that write nothing belong to what stands before the cut.
        last = max(i for i, end in enumerate(draft.ends) if end == chars)
        return Cut(chars, last + 1)
    whole = sum(1 for end in draft.ends if end is not None and end < chars)
    return Cut(chars, whole, inside=True)
