"""One model as a decoder: feed ids, get logits, rewind. Knows nothing of nudging."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from nudge_onnx.errors import ContextLengthError

from .cache import make_cache
from .session import Graph
from .speculation import Costs

__all__ = ["Decoder"]

# ONNX Runtime takes another matrix kernel for one row than for several, and in quantised graphs its result differs
# enough to change an arg-max. Every pass has at least two rows, so that reading ahead cannot change an answer.
_LEAST_ROWS = 2

# ONNX Runtime's matrix product sums a row longer than 128 in one go or in two halves, depending on whether the last
# block of 128 columns is at most half full. In attention the rows are heads and the columns positions, so with wide
# heads a pass must stay within 64 positions for its logits not to depend on where it ends.
_WIDE_HEAD = 128
_SEGMENT = 64


class Decoder:
    """A session and the KV cache of one text.

    Not for two threads at once; any number of decoders may share a `Graph`.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        record = graph.record
        self.context_length = record.context_length - (_LEAST_ROWS - 1)
        """Positions that may be fed in all."""
        self.fed = 0
        """Tokens fed since the decoder was made."""
        self.passes = 0
        """Forward passes since the decoder was made."""
        self.costs = Costs()
        """What passes cost, by their number of rows."""
        self._io = record.io
        self._segmented = record.cache.head_size > _WIDE_HEAD
        self._ids: list[int] = []
        self._vocabulary = record.vocabulary_size
        self._cache = make_cache(graph, record.context_length)
        self._binding: Any = graph.session.io_binding()
        self._mask: npt.NDArray[np.int64] = np.ones((1, 0), np.int64)
        self._logits: npt.NDArray[np.float32] = np.empty((1, 0, self._vocabulary), np.float32)

    @property
    def length(self) -> int:
        """Positions in the cache."""
        return self._cache.length

    @property
    def nbytes(self) -> int:
        """Bytes of the cache."""
        return self._cache.nbytes

    def rewind(self, length: int) -> None:
        """Forget all positions from `length` on; nothing is fed again."""
        self._cache.rewind(length)
        del self._ids[length:]

    def prefill(self, ids: Sequence[int]) -> npt.NDArray[np.float32]:
        """Start anew with `ids`, read in one pass; returns the logits after the last, float32 `[1, vocabulary]`.

        In models with wide heads the last bits of what is cached may differ from what `feed` would have cached.
        Raises `ContextLengthError` if the context has no room.
        """
        self.rewind(0)
        self._check_room(len(ids))
        return self._pass(list(ids), 1)

    def feed(self, ids: Sequence[int], rows: int = 1) -> npt.NDArray[np.float32]:
        """Append `ids` (at least one) to the cache.

        Returns the logits after each of the last `rows` ids, float32 `[rows, vocabulary]`: a view that the next call
        overwrites. They are the same to the last bit however the ids are spread over calls.
        Raises `ContextLengthError` if the context has no room.
        """
        self._check_room(len(ids))
        parts = self._parts(list(ids))
        if len(parts) == 1:
            return self._pass(parts[0], rows)
        logits = []
        left = len(ids)
        for part in parts:
            left -= len(part)
            # Those of the last `rows` ids that are in this part; a copy, for the next pass overwrites them.
            logits.append(self._pass(part, min(len(part), max(0, rows - left))).copy())
        return np.concatenate(logits)

    def _check_room(self, count: int) -> None:
        if self.length + count > self.context_length:
            raise ContextLengthError(
                f"{self.length + count} tokens do not fit the context of {self.context_length}; shorten the prompt"
            )

    def _parts(self, ids: list[int]) -> list[list[int]]:
        """`ids` in the passes that they take."""
        if not self._segmented:
            return [ids]
        first = _SEGMENT - self.length % _SEGMENT
        edges = [0, *range(first, len(ids), _SEGMENT), len(ids)]
        return [ids[start:end] for start, end in pairwise(edges)]

    def _pass(self, ids: list[int], rows: int) -> npt.NDArray[np.float32]:
        start = time.perf_counter()
        past = self.length
        if len(ids) >= _LEAST_ROWS:
            logits = self._run(ids, len(ids) - rows, len(ids))
        elif self._segmented and (past + 1) % _SEGMENT == 0:
            # One more id would belong to the next segment, so the id before is read again instead: same bits.
            self._cache.rewind(past - 1)
            logits = self._run([self._ids[past - 1], *ids], 2 - rows, 2)
        else:
            logits = self._run([*ids, ids[-1]], 1 - rows, 1)
            self._cache.rewind(past + 1)
        self._ids += ids
        self.costs.add(len(ids), time.perf_counter() - start)
        self.fed += len(ids)
        self.passes += 1
        return logits

    def _run(self, ids: list[int], first: int, last: int) -> npt.NDArray[np.float32]:
        """Logits of the rows from `first` up to `last` of a pass over `ids`."""
        past, new = self.length, len(ids)
        io, binding = self._io, self._binding
        inputs = {io.input_ids: np.array([ids], np.int64)}
        if io.attention_mask:
            inputs[io.attention_mask] = self._ones(past + new)
        if io.position_ids:
            inputs[io.position_ids] = np.arange(past, past + new, dtype=np.int64)[None]
        rows = range(new)
        if io.logits_rows:
            # The head is a matrix product too, so it also gets its least number of rows.
            rows = range(max(0, min(first, last - _LEAST_ROWS)), max(last, _LEAST_ROWS))
            inputs[io.logits_rows] = np.array(rows, np.int64)
        for name, array in inputs.items():
            binding.bind_input(name, "cpu", 0, np.int64, array.shape, array.ctypes.data)
        self._cache.bind(binding, new)
        logits = self._logits_buffer(len(rows))
        binding.bind_output(io.logits, "cpu", 0, np.float32, logits.shape, logits.ctypes.data)
        self.graph.session.run_with_iobinding(binding)
        self._cache.advance(binding, new)
        return logits[0, first - rows.start : last - rows.start]

    def _ones(self, length: int) -> npt.NDArray[np.int64]:
        if self._mask.shape[1] < length:
            self._mask = np.ones((1, 2 * length), np.int64)
        return self._mask[:, :length]

    def _logits_buffer(self, rows: int) -> npt.NDArray[np.float32]:
        if self._logits.shape[1] < rows:
            self._logits = np.empty((1, rows, self._vocabulary), np.float32)
        return self._logits[:, :rows]
