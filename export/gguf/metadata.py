"""The key-value part of a GGUF file, read whole and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from nudge_onnx.errors import SourceError

from .reader import MAGIC, read_head

__all__ = ["Metadata", "read_metadata"]

Value = TypeVar("Value")


@dataclass(frozen=True)
class Metadata:
    """What a GGUF file says about itself."""

    file: str
    """The file's name, for messages."""
    values: Mapping[str, Any]
    tensors: Mapping[str, int]
    """Number of weights of each tensor."""

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
    """Read a GGUF file's metadata; of the tensors only names and sizes.

    Raises `SourceError` if there is no such file, if it is no GGUF file, is truncated or corrupt, or one shard of many.
    """
    try:
        with path.open("rb") as stream:
            magic = stream.read(len(MAGIC))
    except OSError as error:
        raise SourceError(f"{path} cannot be read ({error.strerror or error})") from None
    if magic != MAGIC:
        raise SourceError(f"{path} is not a GGUF file: it does not begin with {MAGIC.decode()}")
    try:
        head = read_head(path)
    except (ValueError, OSError) as error:
        reason = " ".join(str(error).split())
        raise SourceError(f"{path} is corrupt or truncated ({reason}); download it again") from None
    metadata = Metadata(path.name, head.values, head.tensors)
    shards = metadata.get("split.count", int, 1)
    if shards > 1:
        raise SourceError(f"{path} is one of {shards} shards; merge them into one GGUF file first")
    return metadata
