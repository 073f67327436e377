"""Nudging as one would first write it on an engine that has no nudging: the rule of docs/decoding.md, policy `word`.

One position at a time, no reading ahead. Text is tokenised again at each hand-over. The two models are only asked for
the logits after some ids.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

After = Callable[[Sequence[int]], Any]
"""The logits after some ids, float32 `[vocabulary]`."""

_DRAFT_TOKENS = 16
_SAME_DRAFTS = 4
_LOOP_TOKENS, _LOOP_WORDS = 16, 5


@dataclass(frozen=True)
class Voice:
    """One model with its tokenizer, and the prompt as it wants it."""

    after: After
    tokenizer: Any
    prompt: str
    add_bos: bool
    ends: frozenset[int]

    def ids(self, text: str) -> list[int]:
        """Ids of the prompt and `text`."""
        ids: list[int] = self.tokenizer.encode(self.prompt + text, add_special_tokens=self.add_bos).ids
        return ids

    def spell(self, ids: Sequence[int]) -> str:
        """Text of ids; a character that has only begun is none yet."""
        text: str = self.tokenizer.decode(ids, skip_special_tokens=True)
        return text.rstrip("\ufffd")

    def choose(self, ids: Sequence[int]) -> tuple[int, float]:
        """The first choice after `ids` and its probability."""
        logits = self.after(ids)
        token = int(logits.argmax())
        return token, float(1 / np.exp(logits - logits[token]).sum())


def nudged(base: Voice, nudge: Voice, gamma: float, limit: int) -> tuple[str, int, int]:
    """An answer of about `limit` tokens: its text, its tokens, and how many of these the nudging model wrote."""
    text, tokens, nudging = "", 0, 0
    accepted, offers = "", 0
    while tokens < limit:
        draft, ended = _draft(nudge, text)
        cut, token = (len(draft), None) if ended else _hand_back(base, text, draft, gamma)
        offers = offers + 1 if draft[:cut] == accepted else 1
        accepted = draft[:cut]
        if not ended and offers == _SAME_DRAFTS:
            break
        count = len(nudge.tokenizer.encode(accepted, add_special_tokens=False).ids)
        text, tokens, nudging = text + accepted, tokens + count, nudging + count
        if ended:
            break
        if token is not None and tokens < limit:
            stretch = _stretch(base, text, token, gamma, limit - tokens)
            text, tokens = text + base.spell(stretch), tokens + len(stretch)
    return text, tokens, nudging


def _draft(nudge: Voice, text: str) -> tuple[str, bool]:
    prompt = nudge.ids(text)
    written: list[int] = []
    for _ in range(_DRAFT_TOKENS):
        token, _ = nudge.choose([*prompt, *written])
        if token in nudge.ends:
            return nudge.spell(written), True
        written.append(token)
    return nudge.spell(written), False


def _hand_back(base: Voice, text: str, draft: str, gamma: float) -> tuple[int, int | None]:
    """Characters of the draft that are accepted, and the token with which the base model takes over there."""
    cuts = _word_starts(draft)
    for cut in cuts:
        token, top1 = base.choose(base.ids(text + draft[:cut]))
        word = base.spell([token]).strip()
        agrees = bool(word) and token not in base.ends and draft[cut:].lstrip().startswith(word)
        if top1 >= gamma or agrees:
            return cut, token
    return (cuts[-1] if cuts else len(draft)), None


def _word_starts(draft: str) -> list[int]:
    """The places before the single space that leads each word but the first."""
    starts, place, seen = [], 0, False
    for word in draft.split(" "):
        if word and seen:
            starts.append(place - 1)
        seen = seen or bool(word)
        place += len(word) + 1
    return starts


def _stretch(base: Voice, text: str, token: int, gamma: float, room: int) -> list[int]:
    ids = base.ids(text)
    written: list[int] = []
    certain = True
    while certain and token not in base.ends and len(written) < room:
        written.append(token)
        if _repeats(base, text, written):
            break
        token, top1 = base.choose([*ids, *written])
        certain = top1 >= gamma
    return written


def _repeats(base: Voice, text: str, written: list[int]) -> bool:
    if len(written) < _LOOP_TOKENS:
        return False
    last = base.spell(written[-_LOOP_TOKENS:])
    return len(last.split()) > _LOOP_WORDS and last in (text + base.spell(written))[: -len(last)]
