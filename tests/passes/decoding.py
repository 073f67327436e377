"""Runs a graph of either cache kind, for comparing one graph with another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

CAPACITY = 320
_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int8)": np.int8}

Logits = npt.NDArray[np.float32]


class Decoder:
    """One text. `feed` gives the logits [tokens, vocabulary] of what it is fed."""

    def __init__(self, model: onnx.ModelProto, *, in_place: bool) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
        self.in_place = in_place
        self.length = 0
        self.inputs = {value.name for value in self.session.get_inputs()}
        positions = CAPACITY if in_place else 0
        self.past = {
            value.name: np.full((1, value.shape[1], positions, value.shape[3]), 7, _TYPES[value.type])
            for value in self.session.get_inputs()
            if value.name.startswith("past_key_values.")
        }

    def feed(self, ids: Sequence[int], rows: Sequence[int] | None = None) -> Logits:
        count = len(ids)
        values: dict[str, npt.NDArray[Any]] = {
            "input_ids": np.array([ids], np.int64),
            "attention_mask": np.ones((1, self.length + count), np.int64),
            "position_ids": np.arange(self.length, self.length + count, dtype=np.int64)[None],
            "logits_rows": np.array(range(count) if rows is None else rows, np.int64),
        }
        feeds = {name: value for name, value in values.items() if name in self.inputs} | self.past
        self.length += count
        return self._run_in_place(feeds) if self.in_place else self._run_growing(feeds)

    def rewind(self, length: int) -> None:
        self.length = length
        if not self.in_place:
            self.past = {name: value[:, :, :length] for name, value in self.past.items()}

    def _run_growing(self, feeds: dict[str, npt.NDArray[Any]]) -> Logits:
        presents = [name.replace("past_key_values", "present") for name in self.past]
        logits, *rest = self.session.run(["logits", *presents], feeds)
        self.past = dict(zip(self.past, rest, strict=True))
        return logits[0]

    def _run_in_place(self, feeds: dict[str, npt.NDArray[Any]]) -> Logits:
        binding = self.session.io_binding()
        for name, value in feeds.items():
            binding.bind_input(name, "cpu", 0, value.dtype.type, value.shape, value.ctypes.data)
        binding.bind_output("logits", "cpu")
        for name, value in self.past.items():
            present = name.replace("past_key_values", "present")
            binding.bind_output(present, "cpu", 0, value.dtype.type, value.shape, value.ctypes.data)
        self.session.run_with_iobinding(binding)
        logits: Logits = binding.get_outputs()[0].numpy()[0]
        return logits


def whole_script(decoder: Decoder, vocabulary: int, seed: int = 0) -> dict[str, Logits]:
    """Prefill, single steps, several tokens on a non-empty cache, and rewinds that write over what was there."""
    ids = [int(token) for token in np.random.default_rng(seed).integers(3, vocabulary, 80)]
    seen = {"prefill": decoder.feed(ids[:40])}
    for index in range(40, 44):
        seen[f"step {index}"] = decoder.feed(ids[index : index + 1])
    seen["chunk"] = decoder.feed(ids[44:51])
    decoder.rewind(37)
    seen["chunk after a rewind"] = decoder.feed(ids[51:54])
    seen["step after a rewind"] = decoder.feed(ids[54:55])
    decoder.rewind(2)
    seen["long chunk after a deep rewind"] = decoder.feed(ids[55:80])
    return seen


def largest_difference(one: dict[str, Logits], other: dict[str, Logits]) -> float:
    assert one.keys() == other.keys()
    return max(float(np.abs(one[name] - other[name]).max()) for name in one)
