"""A decoder with a memory: asks for the token after some ids are answered from what was already read.

Speculation lives here and only here. A caller may say what is likely to come next (`ahead`); those rows are read in the
same pass and remembered. Asking is the same with and without, so reading ahead cannot change an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import numpy as np

from ..text.prefix import common_prefix
from .decoder import Decoder
from .outputs import Logits, Rows, Summary

__all__ = ["RememberedRows"]


Row = TypeVar("Row")

# A prompt that shares less than this with a cache (a BOS, the beginning of a template) is read as if it shared nothing.
_WORTH_KEEPING = 16


class RememberedRows(Generic[Row]):
    """One model reading one text. Not for two threads at once."""

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder
        self._held: list[int] = []
        self._rows: list[Row | None] = []
        self._choose: Callable[[Any, Sequence[int], int], Row] | None = None
        self.prompt: Sequence[int] = ()
        """The ids of the prompt that was read last."""

    @property
    def held(self) -> Sequence[int]:
        """The ids in the cache."""
        self._agree()
        return self._held

    def start(self, choose: Callable[[Logits, Sequence[int], int], Row]) -> None:
        """Begin an answer: `choose` reads the logits after the first so many ids from now on. The cache stays."""
        self._begin(choose, head=False)

    def start_with_head(self, choose: Callable[[Summary, Sequence[int], int], Row]) -> None:
        """Begin an answer: `choose` reads what the graph's uncertainty head says. The cache stays."""
        self._begin(choose, head=True)

    def _begin(self, choose: Callable[[Any, Sequence[int], int], Row], *, head: bool) -> None:
        self.decoder.read(head=head)
        self._choose = choose
        self._rows = [None] * len(self._held)

    @property
    def nbytes(self) -> int:
        """Bytes of the cache, of the rows that are remembered, and of what passes write rows to."""
        # All rows are of one kind, and only logits are large; those before the prompt's end are not remembered.
        known = [row for row in self._rows[len(self.prompt) - 1 :] if isinstance(row, np.ndarray)]
        return self.decoder.nbytes + sum(row.nbytes for row in known)

    def rest(self) -> None:
        """End an answer: keep the ids and the cache, for a text that goes on from here, and nothing else."""
        self._rows = [None] * len(self._held)
        self._choose = None
        self.decoder.rest()

    def prefill(self, ids: Sequence[int], blocks: Sequence[int]) -> None:
        """Read a prompt: all of it if the cache holds next to nothing of it, else only what is new.

        `blocks` are those that are read in one pass each (see `whole_blocks`).
        """
        self._agree()
        self.prompt = ids
        shared = min(common_prefix(self._held, ids), len(ids) - 1)
        kept = self.decoder.kept(shared, blocks) if shared >= _WORTH_KEEPING else 0
        del self._held[kept:], self._rows[kept:]
        self._keep(ids[kept:], self.decoder.prefill(ids[kept:], kept, blocks))

    def knows(self, ids: Sequence[int]) -> bool:
        """Whether `next(ids)` needs no pass."""
        self._agree()
        return common_prefix(self._held, ids) == len(ids) and self._rows[len(ids) - 1] is not None

    def next(self, ids: Sequence[int], ahead: Sequence[int] = ()) -> Row:
        """What `start`'s function makes of the logits after `ids` (at least one).

        `ahead` may guess the ids that come then: they are read in the same pass.

        Raises `ContextLengthError` if `ids` do not fit, `LogitsError` for broken logits.
        """
        self._agree()
        shared = common_prefix(self._held, ids)
        if shared == len(ids):
            known = self._rows[shared - 1]
            if known is not None:
                return known
            shared -= 1
        room = self.decoder.context_length - len(ids)
        self._read(shared, [*ids[shared:], *ahead[: max(room, 0)]], rows=1 + min(len(ahead), max(room, 0)))
        row = self._rows[len(ids) - 1]
        assert row is not None
        return row

    def _agree(self) -> None:
        """Hold what the decoder holds and what is known of it, wherever the last call was interrupted."""
        length = min(len(self._held), len(self._rows), self.decoder.length)
        if length < max(len(self._held), len(self._rows)):
            del self._held[length:], self._rows[length:]

    def _read(self, shared: int, new: list[int], rows: int) -> None:
        del self._held[shared:], self._rows[shared:]
        self.decoder.rewind(shared)
        self._keep(new, self.decoder.feed(new, rows))

    def _keep(self, new: Sequence[int], rows: Rows) -> None:
        """Remember what was made of the rows after the last of the `new` ids."""
        assert self._choose is not None, "start() comes first"
        self._held += new
        first = len(self._held) - len(rows) + 1
        # What is not known in the end is not held either (`_agree`): it is read again.
        fresh = [self._choose(row, self._held, end) for end, row in enumerate(rows, start=first)]
        self._rows += [None] * (len(new) - len(fresh))
        self._rows += fresh
