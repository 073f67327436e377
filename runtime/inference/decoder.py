"""One model as a decoder: feed ids, get logits, rewind. Knows nothing of nudging."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from itertools import pairwise
from typing import Protocol

from nudge_onnx.errors import ContextLengthError

from ..sessions.model_session import Breaker, ModelSession
from ..text.blocks import BLOCK, blocks_of
from .cache import InPlaceCache, make_cache
from .captured import CapturedPasses
from .costs import CostModel, Costs
from .edges import Edges, whole_reach
from .inputs import Inputs
from .outputs import HeadOutputs, LogitsOutputs, Outputs, Rows, has_head, joined

__all__ = ["PASS_ROWS", "Decoder", "Turns"]

PASS_ROWS = 512
"""Most ids of a pass by default: between passes others get a turn, and Ctrl-C is heard."""


class Turns(Protocol):
    """Whose turn it is among the decoders that share a machine's cores."""

    def take(self, decoder: Decoder, ids: list[int], rows: int) -> Rows:
        """What `decoder.pass_alone(ids, rows)` returns, once it is this decoder's turn."""

    def leave(self, decoder: Decoder) -> None:
        """Nothing more is read for now: have the cache where nobody else's is."""

    def costs(self, model: ModelSession, least_rows: int, most_rows: int | None) -> CostModel:
        """What passes of a model cost a decoder."""


class Decoder:
    """A session and the KV cache of one text.

    Not for two threads at once; any number of decoders may share a `ModelSession`. Those that share `turns` wait for
    one another, and several may read a row each in one pass; by itself a decoder runs its passes at once.
    """

    def __init__(self, model: ModelSession, turns: Turns | None = None, pass_rows: int = PASS_ROWS) -> None:
        """`pass_rows` is the most ids of a pass, at least two; blocks of a prompt are read whole."""
        self.model = model
        self._pass_rows = pass_rows
        self._turns = turns
        record = model.record
        # ONNX Runtime may take another matrix kernel for one row than for several, and in quantised graphs its result
        # differs enough to change an arg-max. So a pass has two rows at the least where those agree and one does not,
        # and eight where only passes of one size agree.
        self.least_rows = {"pairs": 2, "eights": 8}.get(model.rows, 1)
        """Rows of the smallest pass; fewer new ids are filled up, which costs as much."""
        self.reads_ahead = model.rows != "none"
        """Whether ids that may come next can be read in the same pass.

        Where no passes share bits each id is read by itself: what is cached must not depend on how it was asked for.
        """
        # What a pass is filled up with is written, too.
        self.context_length = record.context_length - (self.least_rows - 1)
        """Positions that may be fed in all."""
        self.fed = 0
        """Tokens fed since the decoder was made."""
        self.passes = 0
        """Forward passes since the decoder was made."""
        self.begins = False
        """Whether a prompt is being read."""
        self.before_pass: Callable[[], None] = _nothing
        """Called before each pass; what it raises ends the call, and nothing of that pass was done."""
        self._most_rows = 8 if model.rows == "eights" else None
        self.costs: CostModel = (
            turns.costs(model, self.least_rows, self._most_rows) if turns else Costs(self.least_rows, self._most_rows)
        )
        """What passes cost, by their number of rows."""
        self.has_head = has_head(record.io)
        """Whether the graph has an uncertainty head."""
        self._io = record.io
        self._prompt_rows = record.prompt_rows
        self.cache = make_cache(model, record.context_length)
        """Keys and values of what was read."""
        # The cache whose capacity is the width of masks, for passes that may be recorded.
        self._in_place: InPlaceCache | None = None
        if model.cuda_graphs is not None and isinstance(self.cache, InPlaceCache):
            self._in_place = self.cache
        widths = [capacity - self.least_rows + 1 for capacity in self._in_place.capacities()] if self._in_place else []
        self._edges = Edges(record, widths)
        self._reach = whole_reach(record)
        # Whether the rows of a large pass have other bits than those of a smaller one.
        self._in_blocks = model.rows in ("eights", "none") or self._edges.segmented or self._prompt_rows is not None
        self._blocks: list[int] = []  # that were read in one pass each, and of which something may be held
        self._ids: list[int] = []
        self._head = False
        # Of passes over one id, and of all others: binding other shapes takes longer than all else around a step.
        self._bound: dict[bool, tuple[Inputs, Outputs]] = {}
        self._breaker: Breaker | None = None
        self._captured: CapturedPasses | None = None
        if model.cuda_graphs is not None and self._in_place is not None:
            self._captured = CapturedPasses(model, model.cuda_graphs, self._in_place)

    @property
    def length(self) -> int:
        """Positions in the cache whose ids are known; a pass that did not end adds none."""
        return min(self.cache.length, len(self._ids))

    @property
    def nbytes(self) -> int:
        """Bytes of the cache, and of what passes write their rows to."""
        rows = sum(outputs.nbytes for _, outputs in list(self._bound.values()))
        return self.cache.nbytes + rows + (self._captured.nbytes if self._captured else 0)

    def can_share(self, count: int) -> bool:
        """Whether the next `count` ids may be read one by one, in passes that other texts share, for the same bits."""
        as_steps = self._prompt_rows is None or count < self._prompt_rows
        return self.model.batches and as_steps and self.length + count <= self._reach

    def rest(self) -> None:
        """Keep the cache, and let go of what the next pass makes anew."""
        if self._turns:
            self._turns.leave(self)
        self._bound.clear()
        self.cache.unbind()
        self.before_pass = _nothing

    @property
    def reads_head(self) -> bool:
        """What `read` was told."""
        return self._head

    def read(self, *, head: bool) -> None:
        """Whether `feed` and `prefill` return what the uncertainty head says of each row, or (at first) its logits."""
        if head != self._head:
            self._bound.clear()
            self._head = head

    def rewind(self, length: int) -> None:
        """Forget all positions from `length` on; nothing is fed again."""
        self.cache.rewind(length)
        del self._ids[length:]
        while self._blocks and self._blocks[-1] * BLOCK >= length:
            self._blocks.pop()

    def kept(self, shared: int, blocks: Collection[int]) -> int:
        """How many of the first `shared` positions, whose ids are a prompt's, have the bits that it wants.

        `blocks` are those that the prompt has read in one pass each.
        """
        if not self._in_blocks:
            return shared
        for block in range(-(-shared // BLOCK)):
            whole = block in blocks
            if whole != (block in self._blocks) or (whole and (block + 1) * BLOCK > shared):
                return block * BLOCK
        return shared

    def prefill(self, ids: Sequence[int], kept: int = 0, blocks: Sequence[int] | None = None) -> Rows:
        """Keep the first `kept` positions and read `ids` (at least one) behind them as a prompt.

        `blocks`, ascending, are read in one pass each; by default all before the last id. Returns the logits after the
        last, float32 `[1, vocabulary]`. With these `blocks` the cached bits are the same whatever `kept` is, if it
        came from a call of that name. Raises `ContextLengthError` if the context has no room.
        """
        self.rewind(kept)
        self._check_room(len(ids))
        if blocks is None:
            blocks = blocks_of(kept + len(ids) - 1)
        parts = self._prompt_parts(list(ids), [block for block in blocks if block * BLOCK >= kept])
        self.begins = True
        try:
            return self._read(parts, 1)
        finally:
            self.begins = False

    def feed(self, ids: Sequence[int], rows: int = 1) -> Rows:
        """Append `ids` (at least one) to the cache.

        Returns the logits after each of the last `rows` ids, float32 `[rows, vocabulary]`: a view that the next call
        overwrites. They are the same to the last bit however the ids are spread over calls.
        Raises `ContextLengthError` if the context has no room.
        """
        self.rewind(self.length)
        self._check_room(len(ids))
        return self._read(self._parts(list(ids), self.length), rows)

    def _read(self, parts: list[list[int]], rows: int) -> Rows:
        """The last `rows` rows of passes over `parts`."""
        if len(parts) == 1:
            return self._pass(parts[0], rows)
        found = []
        left = sum(map(len, parts))
        for part in parts:
            left -= len(part)
            # Those of the last `rows` ids that are in this part; a copy, for the next pass overwrites them.
            found.append(self._pass(part, min(len(part), max(0, rows - left))).copy())
        return joined(found)

    def _check_room(self, count: int) -> None:
        if self.length + count > self.context_length:
            raise ContextLengthError(
                f"{self.length + count} tokens do not fit the context of {self.context_length}; shorten the prompt"
            )

    def _parts(self, ids: list[int], past: int) -> list[list[int]]:
        """`ids` behind `past` positions, in passes whose rows have the bits of rows read singly."""
        if not self.reads_ahead:
            return [[token] for token in ids]
        count = len(ids)
        edges = [edge - past for edge in self._edges.between(past, past + count)]
        most = self._most_rows or (self._prompt_rows - 1 if self._prompt_rows else self._pass_rows)
        longest = min(most, self._pass_rows)
        return [
            ids[at : min(at + longest, end)]
            for start, end in pairwise([0, *edges, count])
            for at in range(start, end, longest)
        ]

    def _prompt_parts(self, ids: list[int], blocks: Sequence[int]) -> list[list[int]]:
        """`ids` of a prompt in passes: `blocks` whole, if they are of other bits, and the rest as any ids."""
        past = at = self.length
        parts = []
        if self._in_blocks:
            self._blocks += blocks
            for start in (block * BLOCK for block in blocks):
                parts += [*self._parts(ids[at - past : start - past], at), ids[start - past : start - past + BLOCK]]
                at = start + BLOCK
        return parts + self._parts(ids[at - past :], at)

    def _pass(self, ids: list[int], rows: int) -> Rows:
        self.before_pass()
        return self._turns.take(self, ids, rows) if self._turns else self.pass_alone(ids, rows)

    def pass_alone(self, ids: list[int], rows: int, breaker: Breaker | None = None) -> Rows:
        """One pass over `ids` behind what was read; the last `rows` rows, as `feed` returns them.

        Raises `ProviderError` if the provider fails, or `breaker` breaks the pass off: nothing was read then.
        """
        self._breaker = breaker
        start = time.perf_counter()
        past = self.length
        # Filled up, the last id before an edge would reach beyond it.
        at_edge = self.least_rows == 2 and len(ids) == 1 and self._edges.ends_at(past + 1)
        if at_edge:
            # The id before is read again instead: same bits. It is forgotten first, so that an interrupt leaves what
            # `length` says.
            self.cache.rewind(past - 1)
            found = self.run_pass([self._ids[past - 1], *ids], 2 - rows, 2)
        elif len(ids) >= self.least_rows:
            found = self.run_pass(ids, len(ids) - rows, len(ids))
        else:
            count = len(ids)
            found = self.run_pass(ids + ids[-1:] * (self.least_rows - count), count - rows, count)
            self.cache.rewind(past + count)
        self.count(ids)
        self.costs.add(len(ids), time.perf_counter() - start)
        return found

    def count(self, ids: Sequence[int]) -> None:
        """Take note that a pass has read `ids`; the cache holds them."""
        self._ids += ids
        self.fed += len(ids)
        self.passes += 1

    def run_pass(self, ids: list[int], first: int, last: int) -> Rows:
        """The rows from `first` up to `last` of a pass over `ids`."""
        past, new = self.length, len(ids)
        io = self._io
        if self.cache.reserve(new):
            self._bound.clear()
        rows = range(new)
        if io.logits_rows:
            rows = range(first, last)
            if self.least_rows > 1:
                # The head is a matrix product too, so it also gets its least number of rows.
                rows = range(max(0, min(first, last - self.least_rows)), max(last, self.least_rows))
        total = past + new
        width = self._in_place.capacity_for(total) if self._in_place else total
        captured = self._captured and self._captured.of(new, width, len(rows), head=self._head)
        if captured:
            captured.run(past, ids, rows)
            self.cache.advance(captured.binding, new)
            return captured.take(first - rows.start, last - rows.start)
        inputs, outputs = self._bound.get(new == 1) or self._fresh(new == 1)
        inputs.bind(io.input_ids, ids, (1, new))
        if io.attention_mask:
            if width == total:
                inputs.bind_mask(io.attention_mask, total)
            else:
                inputs.bind_wide_mask(io.attention_mask, total, width)
        if io.position_ids:
            inputs.bind(io.position_ids, range(past, total), (1, new))
        if io.logits_rows:
            inputs.bind(io.logits_rows, rows, (len(rows),))
        # The cache first: one that grows knows its outputs by their place.
        self.cache.bind(outputs.binding)
        outputs.bind(len(rows))
        self.model.run(outputs.binding, None, self._breaker)
        self.cache.advance(outputs.binding, new)
        return outputs.take(first - rows.start, last - rows.start)

    def _fresh(self, single: bool) -> tuple[Inputs, Outputs]:
        outputs = self._outputs()
        inputs = Inputs(outputs.binding, in_place=self.model.provider == "cpu")
        self._bound[single] = inputs, outputs
        return inputs, outputs

    def _outputs(self) -> Outputs:
        return HeadOutputs(self.model) if self._head else LogitsOutputs(self.model)


def _nothing() -> None:
    pass
