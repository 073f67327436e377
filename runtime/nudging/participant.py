"""A model in its part of an answer: its prompt, its way of spelling the shared text, and its memory."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from ..choosing.choosers import Choice
from ..inference.costs import CostModel
from ..inference.remembered_rows import RememberedRows
from ..text.prompt import PromptIds
from ..text.tokenizer import Tokenizer
from .draft import START, Draft, HandOver
from .ngram import NGramGuesser
from .transcript import Transcript, open_bytes

__all__ = ["IdParticipant", "Participant"]


class Participant:
    """A model that shares the answer as text, so that any two tokenizers go together."""

    def __init__(
        self, rows: RememberedRows[Choice], prompt: PromptIds, tokenizer: Tokenizer, ends: AbstractSet[int]
    ) -> None:
        self._rows = rows
        self.prompt = prompt
        self.tokenizer = tokenizer
        self._ends = ends
        self._guesser: NGramGuesser | None = None

    @property
    def reads_ahead(self) -> bool:
        """Whether this model can be asked about several tokens in one pass (see `Decoder.reads_ahead`)."""
        return self._rows.decoder.reads_ahead

    @property
    def costs(self) -> CostModel:
        """What the model's passes cost."""
        return self._rows.decoder.costs

    def guess_with(self, guesser: NGramGuesser) -> None:
        """Draft with guesses: fewer passes for the same draft."""
        self._guesser = guesser

    def ids(self, answer: Transcript, draft: Draft | None = None, end: HandOver = START) -> list[int]:
        """The model's ids for prompt and answer, as it sees them when it is its turn.

        With `draft`, what that says before the hand-over `end` follows the answer.
        """
        if draft is None:
            self.prompt.settle(answer.text)
            return self.prompt.encode(answer.text)
        return self.prompt.encode(answer.text + draft.text[: end.chars])

    def spell(self, draft: Draft, begin: HandOver) -> list[int]:
        """What a draft says from the hand-over `begin` on, as this model would most likely write it."""
        return self.tokenizer.encode_inside(draft.text[begin.chars :])

    def next(self, ids: Sequence[int], ahead: Sequence[int] = ()) -> Choice:
        """The model's choice after `ids`; `ahead` is what may come then."""
        return self._rows.next(ids, ahead)

    def knows(self, ids: Sequence[int]) -> bool:
        """Whether the choice after `ids` was read already."""
        return self._rows.knows(ids)

    def ends(self, choice: Choice) -> bool:
        """Whether the choice is to end."""
        return choice.token in self._ends

    def bytes_of(self, token: int) -> bytes:
        """What a token writes."""
        return self.tokenizer.bytes_of(token)

    def draft(self, answer: Transcript, length: int) -> Draft:
        """What this model would write next: at most `length` tokens, on to the end of a character, or to its end.

        Raises `ContextLengthError` if its context is full.
        """
        ids = self.ids(answer)
        start = len(ids)
        choices: list[Choice] = []
        data = b""
        guesser = self._guesser
        if guesser is not None:
            guesser.learn(ids)
        while len(choices) < length or open_bytes(data):
            choice = self.next(ids, guesser.guess() if guesser is not None else ())
            if self.ends(choice):
                return Draft(tuple(ids[start:]), tuple(choices), True, self.tokenizer)
            ids.append(choice.token)
            if guesser is not None:
                guesser.add(choice.token)
            choices.append(choice)
            data += self.bytes_of(choice.token)
        return Draft(tuple(ids[start:]), tuple(choices), False, self.tokenizer)


class IdParticipant(Participant):
    """A model that shares its vocabulary with the other one, so that ids pass over as they are."""

    def ids(self, answer: Transcript, draft: Draft | None = None, end: HandOver = START) -> list[int]:
        """Prompt, answer and draft as ids; nothing is spelt anew."""
        ids = self.prompt.ids + answer.ids
        if draft is not None:
            ids += draft.ids[: end.tokens]
        return ids

    def spell(self, draft: Draft, begin: HandOver) -> list[int]:
        """The draft's own ids."""
        return list(draft.ids[begin.tokens :])
