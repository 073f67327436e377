"""One model as a decoder: feed ids, get logits, rewind. Knows nothing of nudging."""

from __future__ import annotations

import time
from collections.abc import Sequence
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

    def feed(self, ids: Sequence[int], rows: int = 1) -> npt.NDArray[np.float32]:
        """Append `ids` (at least one) to the cache in one pass.

        Returns the logits after each of the last `rows` ids, float32 `[rows, vocabulary]`: a view that the next call
        overwrites. Raises `ContextLengthError` if the context has no room.
        """
        if self.length + len(ids) > self.context_length:
            raise ContextLengthError(
                f"{self.length + len(ids)} tokens do not fit the context of {self.context_length}; shorten the prompt"
            )
        padding = max(0, _LEAST_ROWS - len(ids))
        start = time.perf_counter()
        logits = self._run([*ids, *[ids[-1]] * padding], len(ids) - rows, len(ids))
        self._cache.rewind(self.length - padding)
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
