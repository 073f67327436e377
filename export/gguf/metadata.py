"""The key-value part of a GGUF file, read whole and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from nudge_onnx.errors import SourceError

from .parts import parts_of
from .reader import MAGIC, Head, Tensor, read_head

__all__ = ["Metadata", "read_metadata"]

Value = TypeVar("Value")


@dataclass(frozen=True)
class Metadata:
    """What a GGUF file says about itself."""

    file: str
    """The file's name, for messages."""
    values: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    """Of all parts."""

    @property
    def architecture(self) -> str:
        """`general.architecture`, for example `llama`; it is also the prefix of the architecture's own keys."""
        return self.require("general.architecture", str)

    def get(self, key: str, kind: type[Value], default: Value) -> Value:
        """The value of `key`, or `default` where the file has none; `SourceError` for one of another type."""
        return self.require(key, kind) if key in self.values else default

    def require(self, key: str, kind: type[Value]) -> Value:
        """The value of `key`; `SourceError` where the file has none, or one of another type."""
        if key not in self.values:
            raise SourceError(f"{self.file} lacks {key}; convert the model to GGUF again")
        value = self.values[key]
        # bool is an int to Python, and a flag is no token id.
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise SourceError(f"{self.file}: {key} is not of type {kind.__name__}; convert the model to GGUF again")
        return value

    def require_list(self, key: str, kind: type[Value]) -> list[Value]:
        """The list of `key`; `SourceError` where the file has none, or one with items of another type."""
        items = self.require(key, list)
        if not all(isinstance(item, kind) for item in items):
            raise SourceError(f"{self.file}: {key} is no list of {kind.__name__}; convert the model to GGUF again")
        return items


def read_metadata(path: Path) -> Metadata:
    """Read a GGUF file's metadata; of the tensors only names, sizes and places.

    `path` is a file, or any part of a split one. Raises `SourceError` if there is no such file, if a part is missing,
    and for a part that is no GGUF file, is truncated or corrupt, or belongs to another file.
    """
    parts = parts_of(path)
    heads = [_head(part) for part in parts]
    first = Metadata(parts[0].name, heads[0].values, {})
    tensors: dict[str, Tensor] = {}
    for number, (part, head) in enumerate(zip(parts, heads, strict=True)):
        own = Metadata(part.name, head.values, head.tensors)
        count = own.get("split.count", int, 0) or 1
        if count != len(parts) or (count > 1 and own.require("split.no", int) != number):
            raise SourceError(
                f"{part} says that it is part {own.get('split.no', int, 0) + 1} of {count}, and its name says "
                f"{number + 1} of {len(parts)}; give all parts the names that they were downloaded with"
            )
        if twice := tensors.keys() & head.tensors.keys():
            raise SourceError(f"{part} holds {min(twice)}, as an earlier part does; download all parts again")
        tensors |= head.tensors
    expected = first.get("split.tensors.count", int, len(tensors))
    if expected != len(tensors):
        raise SourceError(f"{path}: its parts hold {len(tensors)} of {expected} tensors; download all of them again")
    return Metadata(first.file, first.values, tensors)


def _head(path: Path) -> Head:
    try:
        with path.open("rb") as stream:
            magic = stream.read(len(MAGIC))
    except OSError as error:
        raise SourceError(f"{path} cannot be read ({error.strerror or error})") from None
    if magic != MAGIC:
        raise SourceError(f"{path} is not a GGUF file: it does not begin with {MAGIC.decode()}")
    try:
        return read_head(path)
    except (ValueError, OSError) as error:
        reason = " ".join(str(error).split())
        raise SourceError(f"{path} is corrupt or truncated ({reason}); download it again") from None
