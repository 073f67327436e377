"""The head of a GGUF file: its key-value pairs and the list of its tensors.

`gguf.GGUFReader` is not used for that: it takes a length in the file at its word, so that one wrong byte can keep it
busy for ever. Here nothing is read beyond the end of the file, and every tensor is known to lie inside it.
Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFValueType

__all__ = ["MAGIC", "Head", "read_head"]

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
class Head:
    """What stands before the weights."""

    values: dict[str, Any]
    """Numbers, flags, strings, and lists of one of these."""
    tensors: dict[str, int]
    """Number of weights of each tensor."""


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
            key = cursor.string()
            values[key] = cursor.value(GGUFValueType(cursor.number("I")))
        listed = [_tensor(cursor) for _ in range(tensor_count)]
        alignment = values.get("general.alignment", ALIGNMENT)
        if not isinstance(alignment, int) or alignment <= 0:
            raise ValueError(f"alignment {alignment!r}")
        begin = math.ceil(stream.tell() / alignment) * alignment
        for name, _, offset, size in listed:
            if begin + offset + size > cursor.size:
                raise ValueError(f"tensor {name} reaches beyond the end of the file")
    return Head(values, {name: weights for name, weights, _, _ in listed})


def _tensor(cursor: _Cursor) -> tuple[str, int, int, int]:
    """Name, number of weights, offset and size in bytes of the next tensor in the list."""
    name = cursor.string()
    dimensions = cursor.number("I")
    if dimensions > MAX_DIMENSIONS:
        raise ValueError(f"tensor {name} has {dimensions} dimensions")
    weights = math.prod(cursor.number("Q") for _ in range(dimensions))
    block, size = GGML_QUANT_SIZES[GGMLQuantizationType(cursor.number("I"))]
    return name, weights, cursor.number("Q"), weights // block * size


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
