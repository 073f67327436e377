"""The nudging loop (Fei, Razeghi, Singh, ACL 2025). `docs/decoding.md` has the rule and numbers its steps like here."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeAlias

from nudge_onnx.choices import Tail
from nudge_onnx.errors import ContextLengthError

from ..choosing.choosers import Choice
from ..choosing.pair_gates import PairGate
from .draft import START, Draft, HandOver
from .participant import OpenDraft, Participant
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
    tail: Tail = "draft"
    certain: PairGate | None = None
    """A gate that reads both models' choices at a place; `None`: choices say themselves whether they are certain."""

    def run(self) -> Pieces:
        """The answer, until the nudging model ends it, the limit or a context is reached, or drafts repeat."""
        try:
            return (yield from self._rounds())
        except ContextLengthError:
            return "length"

    def _rounds(self) -> Pieces:
        accepted, offers = "", 0
        while not self.answer.full:
            growing = self.nudge.begin_draft(self.answer, self.draft_tokens)  # 1
            if self.tail == "draft":
                growing.whole()
            hand_over, choice = None, None
            if self.tail == "lazy" or not growing.so_far.ended:
                hand_over, choice = self._hand_back(growing)  # 3
            draft = growing.so_far
            if hand_over is None:  # 2
                fits = self.answer.remaining >= len(draft.ids)
                if draft.ids:
                    yield self._append(draft, draft.whole)
                return "stop" if fits else "length"
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

    def _hand_back(self, growing: OpenDraft) -> tuple[HandOver | None, Choice | None]:
        """Where the draft is cut, and what the base model writes there if it takes over.

        No place: the draft ends the answer. It grows as far as is needed to say so.
        """
        asked = 0
        while True:
            draft, done = growing.so_far, growing.done
            hand_overs = self.hand_overs_of(draft)
            for hand_over in hand_overs[asked:]:
                choice = self._ask(self.base.ids(self.answer, draft, hand_over), self._guess(draft, hand_over))
                if self._certain(choice, draft, hand_over) or self._agrees(choice, growing, hand_over):
                    return hand_over, choice
            asked = len(hand_overs)
            if done:
                break
            if not growing.done:  # which to agree may have taken
                self._grow(growing)
        if draft.ended:
            return None, None
        return (hand_overs[-1] if hand_overs else draft.whole), None

    def _grow(self, growing: OpenDraft) -> None:
        """One more token, and as many as promise to pay as guesses."""
        choice = growing.grow()
        wanted = self.speculation.draft_length()
        with suppress(ContextLengthError):
            while not (growing.done or len(growing) >= wanted or self.speculation.stops(choice)):
                choice = growing.grow()

    def _agrees(self, choice: Choice, growing: OpenDraft, hand_over: HandOver) -> bool:
        word = self.base.bytes_of(choice.token).decode("utf-8", "replace").strip()
        if not word or self.base.ends(choice):
            return False
        while True:
            rest = growing.so_far.text[hand_over.chars :].lstrip()
            if growing.done or len(rest) >= len(word) or not word.startswith(rest):
                return rest.startswith(word)
            growing.grow()

    def _certain(self, choice: Choice, draft: Draft | None = None, hand_over: HandOver = START) -> bool:
        """Whether the base model is certain of `choice` after the answer, and a draft up to a hand-over."""
        if self.certain is None:
            return choice.certain
        return self.certain(choice, self.nudge.next(self.nudge.ids(self.answer, draft, hand_over)))

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
            if not open_tokens and not self._certain(choice):
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
            growing = self.nudge.begin_draft(self.answer, length)
            while not growing.done and not self.speculation.stops(growing.grow()):
                pass
        except ContextLengthError:
            return []
        guess = self._guess(growing.so_far)
        self.speculation.drafted(len(guess))
        return guess
