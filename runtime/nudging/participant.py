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

__all__ = ["IdParticipant", "OpenDraft", "Participant"]


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

    def begin_draft(self, answer: Transcript, length: int) -> OpenDraft:
        """A draft of what this model would write next, of at most `length` tokens, of which none is written yet."""
        return OpenDraft(self, self.ids(answer), length, self._guesser)


class OpenDraft:
    """A draft that its model writes as far as it is wanted: to its limit and on to the end of a character, or to its
    end token."""

    def __init__(self, writer: Participant, ids: list[int], length: int, guesser: NGramGuesser | None) -> None:
        self._writer = writer
        self._ids = ids
        self._start = len(ids)
        self._length = length
        self._choices: list[Choice] = []
        self._data = b""
        self._ended = False
        self._so_far: Draft | None = None
        self._guesser = guesser
        if guesser is not None:
            guesser.learn(ids)

    def __len__(self) -> int:
        return len(self._choices)

    @property
    def done(self) -> bool:
        """Whether there is no more of it."""
        return self._ended or (len(self._choices) >= self._length and not open_bytes(self._data))

    @property
    def so_far(self) -> Draft:
        """What is written. Its text and hand-overs are a beginning of those of the whole draft."""
        if self._so_far is None:
            ids, choices = tuple(self._ids[self._start :]), tuple(self._choices)
            self._so_far = Draft(ids, choices, self._ended, self._writer.tokenizer)
        return self._so_far

    def grow(self) -> Choice:
        """Write one more token, or find the end. Raises `ContextLengthError` if the model's context is full."""
        guesser = self._guesser
        choice = self._writer.next(self._ids, guesser.guess() if guesser is not None else ())
        self._so_far = None
        if self._writer.ends(choice):
            self._ended = True
            return choice
        self._ids.append(choice.token)
        if guesser is not None:
            guesser.add(choice.token)
        self._choices.append(choice)
        self._data += self._writer.bytes_of(choice.token)
        return choice

    def whole(self) -> Draft:
        """All of it. Raises `ContextLengthError` if the model's context is full."""
        while not self.done:
            self.grow()
        return self.so_far


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
