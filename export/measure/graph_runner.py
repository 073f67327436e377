"""Runs an exported graph on the CPU, to measure it. The runtime's decoder is faster; this one is short."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nudge_onnx.bundle import Cache, GraphIO

__all__ = ["GraphRunner"]


class GraphRunner:
    """One session and one KV cache of at most `capacity` positions, for both kinds of cache."""

    def __init__(self, graph: Path, io: GraphIO, cache: Cache, capacity: int) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.log_severity_level = 3
        self._session = ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        self._ort_value: Any = ort.OrtValue
        self._io = io
        self._in_place = cache.kind == "in_place"
        self.length = 0
        """Positions in the cache."""
        self._names = [
            (past.format(layer=layer), present.format(layer=layer))
            for layer in range(cache.layers)
            for past, present in ((io.past_key, io.present_key), (io.past_value, io.present_value))
        ]
        shape = (1, cache.kv_heads, capacity if self._in_place else 0, cache.head_size)
        self._past = [self._ort_value.ortvalue_from_numpy(np.zeros(shape, cache.dtype)) for _ in self._names]

    def feed(self, ids: Sequence[int], rows: int | None = None) -> npt.NDArray[np.float32]:
        """Append `ids` and return the logits after the last `rows` of them (default: all), `[rows, vocabulary]`."""
        new, total = len(ids), self.length + len(ids)
        rows = new if rows is None else rows
        feeds = {self._io.input_ids: np.array([ids], np.int64)}
        if self._io.attention_mask:
            feeds[self._io.attention_mask] = np.ones((1, total), np.int64)
        if self._io.position_ids:
            feeds[self._io.position_ids] = np.arange(self.length, total, dtype=np.int64)[None]
        if self._io.logits_rows:
            feeds[self._io.logits_rows] = np.arange(new - rows, new, dtype=np.int64)
        binding = self._session.io_binding()
        for name, array in feeds.items():
            binding.bind_cpu_input(name, array)
        binding.bind_output(self._io.logits)
        for (past, present), value in zip(self._names, self._past, strict=True):
            binding.bind_ortvalue_input(past, value)
            if self._in_place:
                binding.bind_ortvalue_output(present, value)
            else:
                binding.bind_output(present)
        self._session.run_with_iobinding(binding)
        logits, *present_values = binding.get_outputs()
        if not self._in_place:
            self._past = present_values
        self.length = total
        result: npt.NDArray[np.float32] = logits.numpy()[0, -rows:].astype(np.float32, copy=False)
        return result

    def rewind(self, length: int) -> None:
        """Forget all positions from `length` on."""
        if not self._in_place:
            self._past = [
                self._ort_value.ortvalue_from_numpy(np.ascontiguousarray(value.numpy()[:, :, :length]))
                for value in self._past
            ]
        self.length = length
