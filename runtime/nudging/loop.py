"""The nudging loop (Fei, Razeghi, Singh, ACL 2025). `docs/decoding.md` has the rule and numbers its steps like here."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TypeAlias

from nudge_onnx.errors import ContextLengthError

from ..choosing.choosers import Choice
from .draft import START, Draft, HandOver
from .participant import Participant
from .results import FinishReason, Piece
from .speculation import Speculation
from .transcript import OpenTokens, Transcript

__all__ = ["NudgingLoop", "Pieces"]

Pieces: TypeAlias = Generator[Piece, None, FinishReason]
"""Yields the answer piece by piece and returns why it ended."""

_SAME_DRAFTS = 4
_LOOP_TOKENS = 16
_LOOP_WORDS = 5


@dataclass
class NudgingLoop:
    """Writes one answer with both models.

    A caller may stop at any piece; the models' caches are valid whenever the generator is not running.
    """

    base: Participant
    nudge: Participant
    answer: Transcript
    hand_overs_of: Callable[[Draft], list[HandOver]]
    """A draft's hand-overs: `word_hand_overs` or `token_hand_overs`."""
    draft_tokens: int
    speculation: Speculation

    def run(self) -> Pieces:
        """The answer, until the nudging model ends it, the limit or a context is reached, or drafts repeat."""
        try:
            return (yield from self._rounds())
        except ContextLengthError:
            return "length"

    def _rounds(self) -> Pieces:
        accepted, offers = "", 0
        while not self.answer.full:
            draft = self.nudge.draft(self.answer, self.draft_tokens)  # 1
            if draft.ended:  # 2
                fits = self.answer.remaining >= len(draft.ids)
                if draft.ids:
                    yield self._append(draft, draft.whole)
                return "stop" if fits else "length"
            hand_over, choice = self._hand_back(draft)  # 3
            text = draft.text[: hand_over.chars]
            offers = offers + 1 if text == accepted else 1
            accepted = text
            if offers == _SAME_DRAFTS:
                return "repetition"
            yield self._append(draft, hand_over)
            if choice is not None and not self.answer.full:
                yield from self._stretch(choice, self._guess(draft, hand_over))  # 4
        return "length"

    def _append(self, draft: Draft, hand_over: HandOver) -> Piece:
        ids, choices, text = draft.up_to(hand_over)
        return self.answer.append("nudge", ids, choices, text, self.nudge.bytes_of)

    def _hand_back(self, draft: Draft) -> tuple[HandOver, Choice | None]:
        """Where the draft is cut, and what the base model writes there if it takes over."""
        hand_overs = self.hand_overs_of(draft)
        for hand_over in hand_overs:
            choice = self._ask(self.base.ids(self.answer, draft, hand_over), self._guess(draft, hand_over))
            if choice.certain or self._agrees(choice, draft.text[hand_over.chars :]):
                return hand_over, choice
        return (hand_overs[-1] if hand_overs else draft.whole), None

    def _agrees(self, choice: Choice, rest: str) -> bool:
        word = self.base.bytes_of(choice.token).decode("utf-8", "replace").strip()
        return bool(word) and not self.base.ends(choice) and rest.lstrip().startswith(word)

    def _stretch(self, choice: Choice, guess: list[int]) -> Generator[Piece, None, None]:
        """The base model writes from `choice` on; `guess` is what it may write, begun with that very token."""
        ids = self.base.ids(self.answer)
        open_tokens = OpenTokens("base", self.base.bytes_of)
        written: list[int] = []
        while not self.base.ends(choice):
            guess = guess[1:] if guess[:1] == [choice.token] else []
            ids.append(choice.token)
            written.append(choice.token)
            piece = open_tokens.add(choice, self.answer)
            if piece is not None:
                yield piece
                if self.answer.full or self._loops(written):
                    return
                guess = guess or self._fresh_guess(ids)
            choice = self._ask(ids, guess)
            # Inside a character the turn stays here, certain or not.
            if not choice.certain and not open_tokens:
                return
        piece = open_tokens.give_up(self.answer)
        if piece is not None:
            yield piece

    def _loops(self, written: list[int]) -> bool:
        """Whether the last tokens of a stretch say again what the answer said before."""
        if len(written) < _LOOP_TOKENS:
            return False
        text = b"".join(map(self.base.bytes_of, written[-_LOOP_TOKENS:])).decode("utf-8", "replace")
        return len(text.split()) > _LOOP_WORDS and text in self.answer.text[: -len(text)]

    def _ask(self, ids: list[int], guess: list[int]) -> Choice:
        """The base model's choice after `ids`, read together with as much of `guess` as pays."""
        ahead = guess[: self.speculation.ahead(len(guess))]
        choice = self.base.next(ids, ahead)
        if guess:
            self.speculation.saw(guess[0] == choice.token, choice.certain)
        return choice

    def _guess(self, draft: Draft, hand_over: HandOver = START) -> list[int]:
        """The rest of a draft as the base model would spell it."""
        return [] if self.speculation.off else self.base.spell(draft, hand_over)

    def _fresh_guess(self, ids: list[int]) -> list[int]:
        """A new draft ahead of the base model, where that pays and its next choice is not known yet."""
        length = self.speculation.draft_length()
        if not length or self.base.knows(ids):
            return []
        try:
            draft = self.nudge.draft(self.answer, length)
        except ContextLengthError:
            return []
        return self._guess(draft)
