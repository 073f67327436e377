"""The head of a GGUF file: its key-value pairs and the list of its tensors.

`gguf.GGUFReader` is not used for that: it takes a length in the file at its word, so that one wrong byte can keep it
busy for ever. Here nothing is read beyond the end of the file, and every tensor is known to lie inside it.
Weights are read one tensor at a time.
Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFValueType, dequantize
from numpy.typing import NDArray

__all__ = ["MAGIC", "Head", "Tensor", "read_head"]

MAGIC = b"GGUF"
VERSIONS = (2, 3)
ALIGNMENT = 32
MAX_DIMENSIONS = 4
NUMBERS = {
    GGUFValueType.UINT8: "B",
    GGUFValueType.INT8: "b",
    GGUFValueType.UINT16: "H",
    GGUFValueType.INT16: "h",
    GGUFValueType.UINT32: "I",
    GGUFValueType.INT32: "i",
    GGUFValueType.FLOAT32: "f",
    GGUFValueType.BOOL: "?",
    GGUFValueType.UINT64: "Q",
    GGUFValueType.INT64: "q",
    GGUFValueType.FLOAT64: "d",
}


@dataclass(frozen=True)
class Tensor:
    """Where a tensor lies, and how it is stored."""

    path: Path
    shape: tuple[int, ...]
    """As NumPy has it: rows first, which a file lists last."""
    kind: GGMLQuantizationType
    offset: int
    """From the beginning of the file, in bytes."""
    size: int
    """In bytes."""

    @property
    def weights(self) -> int:
        """How many."""
        return math.prod(self.shape)

    def read(self, start: int = 0, stop: int | None = None) -> NDArray[np.float32]:
        """Rows `start` up to `stop` (all) in fp32; raises `NotImplementedError` for a kind that cannot be unpacked."""
        stop = self.shape[0] if stop is None else stop
        shape = (stop - start, *self.shape[1:])
        row = self.size // self.shape[0]
        stored = np.fromfile(self.path, np.uint8, count=row * (stop - start), offset=self.offset + row * start)
        plain = {GGMLQuantizationType.F32: np.float32, GGMLQuantizationType.F16: np.float16}.get(self.kind)
        if plain is not None:
            return stored.view(plain).reshape(shape).astype(np.float32)
        # In rows: gguf unpacks a few of them at a time, which keeps what it needs besides small.
        unpacked: NDArray[np.float32] = dequantize(stored.reshape(*shape[:-1], -1), self.kind)
        return unpacked.reshape(shape)


@dataclass(frozen=True)
class Head:
    """What stands before the weights."""

    values: dict[str, Any]
    """Numbers, flags, strings, and lists of one of these."""
    tensors: dict[str, Tensor]


def read_head(path: Path) -> Head:
    """Read the head of a file; raises `ValueError` with the reason if it is unsound, `OSError` if it is unreadable."""
    with path.open("rb") as stream:
        cursor = _Cursor(stream, path.stat().st_size)
        if cursor.take(len(MAGIC)) != MAGIC:
            raise ValueError("no GGUF file")
        version = cursor.number("I")
        if version not in VERSIONS:
            raise ValueError(f"format version {version}, known are {VERSIONS[0]} and {VERSIONS[1]}")
        tensor_count, pair_count = cursor.number("Q"), cursor.number("Q")
        values: dict[str, Any] = {}
        for _ in range(pair_count):
            key = cursor.name()
            values[key] = cursor.value(GGUFValueType(cursor.number("I")))
        listed = [_tensor(cursor, path) for _ in range(tensor_count)]
        alignment = values.get("general.alignment", ALIGNMENT)
        if not isinstance(alignment, int) or alignment <= 0:
            raise ValueError(f"alignment {alignment!r}")
        begin = math.ceil(stream.tell() / alignment) * alignment
        tensors: dict[str, Tensor] = {}
        for name, tensor in listed:
            if name in tensors:
                raise ValueError(f"tensor {name} is listed twice")
            tensors[name] = placed = replace(tensor, offset=begin + tensor.offset)
            if placed.offset + placed.size > cursor.size:
                raise ValueError(f"tensor {name} reaches beyond the end of the file")
    return Head(values, tensors)


def _tensor(cursor: _Cursor, path: Path) -> tuple[str, Tensor]:
    """Name and place of the next tensor in the list; its offset is still from the end of the head."""
    name = cursor.name()
    dimensions = cursor.number("I")
    if dimensions > MAX_DIMENSIONS:
        raise ValueError(f"tensor {name} has {dimensions} dimensions")
    shape = tuple(cursor.numbers("Q", dimensions)[::-1])
    kind = GGMLQuantizationType(cursor.number("I"))
    block, size = GGML_QUANT_SIZES[kind]
    if math.prod(shape[-1:]) % block:
        raise ValueError(f"tensor {name} has rows of {shape[-1]} weights in blocks of {block}")
    return name, Tensor(path, shape, kind, cursor.number("Q"), math.prod(shape) // block * size)


@dataclass(frozen=True)
class _Cursor:
    """Reads little-endian values one after the other, never beyond the end."""

    stream: BinaryIO
    size: int
    """Of the file, in bytes."""

    def take(self, count: int) -> bytes:
        # Before reading: a wrong count may be larger than the memory.
        if count > self.size - self.stream.tell():
            raise ValueError("it ends too early")
        return self.stream.read(count)

    def numbers(self, code: str, count: int) -> list[Any]:
        data = self.take(count * struct.calcsize(f"<{code}"))
        return list(struct.unpack(f"<{count}{code}", data))

    def number(self, code: str) -> Any:
        return self.numbers(code, 1)[0]

    def string(self) -> str:
        return self.take(self.number("Q")).decode("utf-8")

    def name(self) -> str:
        """Of a key or a tensor: errors quote it, in one line."""
        text = self.string()
        if not text.isprintable():
            raise ValueError(f"{text[:60]!r} is no name")
        return text

    def value(self, kind: GGUFValueType) -> Any:
        if kind == GGUFValueType.STRING:
            return self.string()
        if kind != GGUFValueType.ARRAY:
            return self.number(NUMBERS[kind])
        item, count = GGUFValueType(self.number("I")), self.number("Q")
        if item == GGUFValueType.STRING:
            return [self.string() for _ in range(count)]
        if item not in NUMBERS:
            raise ValueError("an array of arrays")
        return self.numbers(NUMBERS[item], count)
