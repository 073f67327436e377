"""One pass for a row each of several texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..inference.cache import InPlaceCache, cache_names
from ..inference.decoder import Decoder
from ..inference.outputs import Rows, bind_output, output_shapes, summaries
from ..sessions.model_session import ModelSession
from .slots import Slots

__all__ = ["Batch"]

# A row of a text that takes no part is computed and forgotten. Any id will do.
_NOTHING = 0


@dataclass
class _Bound:
    """What a pass over some slots in a row reads and writes."""

    binding: Any
    outputs: list[npt.NDArray[Any]]


class Batch:
    """The slots of one model, and passes over them: the batch axis of its graph counts texts, each with one new row.

    The attention of a row reads its own slot alone, and products give a row the same bits whatever rows stand beside
    it. `batches_agree` asks whether that holds where the model runs.
    """

    def __init__(self, model: ModelSession, most: int) -> None:
        self._model = model
        self._slots = Slots(model, most)
        self._least = 2 if model.rows == "pairs" else 1
        self._names = cache_names(model)
        self._bound: dict[tuple[int, int, bool], _Bound] = {}
        self._tensors: npt.NDArray[Any] | None = None
        self._inputs: list[npt.NDArray[np.int64]] = []

    def run(self, decoders: Sequence[Decoder], ids: Sequence[int], row_seconds: float = 0.0) -> list[Rows]:
        """Read one id behind each of several texts; returns each one's row, as `Decoder.feed` does, in its own memory.

        All decoders are of this model, with caches in place, and read the same: the head or logits. `row_seconds` is
        what one more row costs a pass.
        """
        caches = [decoder.cache for decoder in decoders if isinstance(decoder.cache, InPlaceCache)]
        places = self._slots.seat(caches, row_seconds)
        first, last = min(places), max(places) + 1
        if last - first < self._least:
            first = max(0, last - self._least)
            last = first + self._least
        bound = self._bind(first, last - first, head=decoders[0].reads_head)
        rows = [_NOTHING] * (last - first)
        for place, token in zip(places, ids, strict=True):
            rows[place - first] = token
        self._read(bound.binding, rows, self._slots.lengths(first, last - first))
        self._model.run(bound.binding)
        found = []
        for decoder, place, token in zip(decoders, places, ids, strict=True):
            decoder.cache.advance(bound.binding, 1)
            decoder.count([token])
            found.append(_row(bound.outputs, place - first, head=decoder.reads_head))
        return found

    def leave(self, decoder: Decoder) -> None:
        """Have a decoder's cache in memory of its own."""
        if isinstance(decoder.cache, InPlaceCache):
            self._slots.leave(decoder.cache)
        if not self._slots.tensors.size:
            self._bound.clear()

    def _bind(self, first: int, count: int, *, head: bool) -> _Bound:
        if self._tensors is not self._slots.tensors:
            self._bound.clear()
            self._tensors = self._slots.tensors
        key = first, count, head
        bound = self._bound.get(key)
        if bound is None:
            binding = self._model.session.io_binding()
            for (past, present), tensor in zip(self._names, self._slots.tensors, strict=True):
                part = tensor[first : first + count]
                place = "cpu", 0, part.dtype.type, part.shape, part.ctypes.data
                binding.bind_input(past, *place)
                binding.bind_output(present, *place)
            outputs = []
            for name, shape, kind in output_shapes(self._model.record, 1, head=head, texts=count):
                outputs.append(np.empty(shape, kind))
                bind_output(binding, name, outputs[-1])
            bound = self._bound[key] = _Bound(binding, outputs)
        return bound

    def _read(self, binding: Any, ids: Sequence[int], lengths: Sequence[int]) -> None:
        """Bind ids, mask and positions of rows behind so many positions each."""
        io = self._model.record.io
        past = np.array(lengths, np.int64)[:, None]
        inputs = {io.input_ids: np.array(ids, np.int64)[:, None]}
        if io.attention_mask:
            inputs[io.attention_mask] = (np.arange(past.max() + 1) <= past).astype(np.int64)
        if io.position_ids:
            inputs[io.position_ids] = past
        if io.logits_rows:
            inputs[io.logits_rows] = np.zeros(1, np.int64)
        for name, value in inputs.items():
            binding.bind_input(name, "cpu", 0, np.int64, value.shape, value.ctypes.data)
        self._inputs = list(inputs.values())  # which have to live as long as they are bound


def _row(outputs: Sequence[npt.NDArray[Any]], at: int, *, head: bool) -> Rows:
    if head:
        return summaries([output[at] for output in outputs])
    return np.array(outputs[0][at])
