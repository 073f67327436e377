"""The key-value part of a GGUF file, read whole and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from gguf import GGUFReader

from nudge_onnx.errors import SourceError

__all__ = ["MAGIC", "Metadata", "read_metadata"]

MAGIC = b"GGUF"

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
        # The reader lays every tensor over the file, so a file that ends too early fails here too.
        reader = GGUFReader(path)
        values = {key: field.contents() for key, field in reader.fields.items()}
        tensors = {tensor.name: int(tensor.n_elements) for tensor in reader.tensors}
    # What the reader raises for a broken file depends on which byte is broken.
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, MemoryError, OSError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise SourceError(f"{path} is corrupt or truncated ({reason}); download it again") from None
    if values.get("split.count", 1) != 1:
        raise SourceError(f"{path} is one of {values['split.count']} shards; merge them into one GGUF file first")
    return Metadata(path.name, values, tensors)
