"""The keys of an architecture's own namespace, each of which is understood, harmless, or refused by name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from nudge_onnx.errors import SourceError

from .metadata import Metadata

__all__ = ["Keys"]

HARMLESS = frozenset(
    {
        "vocab_size",  # the embedding has it
        "tensor_data_layout",  # llama.cpp reads no other than the one that the tensors' names stand for
        "pooling_type",  # of embeddings of texts
        "attention.group_norm_epsilon",  # of convolutions
        "rope.scaling.finetuned",  # whether a scaled model was trained on, no part of the computation
    }
)
NEUTRAL: Mapping[str, Any] = {
    "attention.causal": True,
    "attention.clamp_kqv": 0,
    "attention.max_alibi_bias": 0,
    "attn_logit_softcapping": 0,
    "embedding_scale": 1,
    "expert_count": 0,
    "expert_used_count": 0,
    "final_logit_softcapping": 0,
    "logit_scale": 1,
    "nextn_predict_layers": 0,
    "residual_scale": 1,
    "rope.scaling.attn_factor": 1,
    "rope.scaling.yarn_attn_factor": 1,
    "rope.scaling.yarn_ext_factor": 0,
    "swin_norm": False,
    "use_parallel_residual": False,
}
"""Keys that many architectures have and ours do not: what they hold where they change nothing."""


class Keys:
    """Reads the keys under an architecture's prefix and remembers which were read."""

    def __init__(self, metadata: Metadata) -> None:
        self.metadata = metadata
        self._prefix = metadata.architecture + "."
        self._read: set[str] = set()

    def has(self, key: str) -> bool:
        """Whether the file has the key."""
        return self._prefix + key in self.metadata.values

    def count(self, key: str, default: int | None = None) -> int:
        """A whole number, one for all layers; `SourceError` where it differs between them, or is missing and needed."""
        return int(self._number(key, default, int))

    def size(self, key: str, default: int | None = None) -> int:
        """A whole number above 0, likewise."""
        value = self.count(key, default)
        if value < 1:
            raise self.refuse(key, "it must be above 0")
        return value

    def real(self, key: str, default: float | None = None) -> float:
        """A finite number of 0 or above, likewise."""
        value = float(self._number(key, default, float))
        if not 0 <= value < math.inf:
            raise self.refuse(key, "it must be finite and not below 0")
        return value

    def text(self, key: str, default: str) -> str:
        """A string."""
        self._read.add(key)
        return self.metadata.get(self._prefix + key, str, default)

    def pattern(self, key: str, default: int, layers: int) -> list[bool]:
        """Which layers have a feature: a flag a layer, or a number n, which stands for all but every n-th."""
        self._read.add(key)
        value = self.metadata.values.get(self._prefix + key, default)
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return [value == 0 or layer % value < value - 1 for layer in range(layers)]
        if not isinstance(value, list) or len(value) < layers or not all(isinstance(flag, int) for flag in value):
            raise SourceError(
                f"{self.metadata.file}: {self._prefix}{key} is neither a number nor a flag for each of {layers} layers"
            )
        return [bool(flag) for flag in value[:layers]]

    def ignore(self, key: str) -> None:
        """Take a key that changes nothing in this model for read."""
        self._read.add(key)

    def refuse(self, key: str, why: str) -> SourceError:
        """The error for a key whose value cannot be followed."""
        value = " ".join(str(self.metadata.values.get(self._prefix + key)).split())[:60]
        return SourceError(
            f"{self.metadata.file}: {self._prefix}{key} = {value} is not supported ({why}); use the original checkpoint"
        )

    def refuse_the_rest(self) -> None:
        """Raise `SourceError` for a key that nobody read and that may change the model."""
        for full, value in self.metadata.values.items():
            key = full.removeprefix(self._prefix)
            if key == full or key in self._read or key in HARMLESS:
                continue
            if key not in NEUTRAL or value != NEUTRAL[key]:
                raise self.refuse(key, "it may change the model")

    def _number(self, key: str, default: float | None, kind: type[int] | type[float]) -> float:
        self._read.add(key)
        full = self._prefix + key
        if default is not None and full not in self.metadata.values:
            return default
        value = self.metadata.values.get(full)
        if isinstance(value, list) and value:
            if value.count(value[0]) != len(value):
                raise self.refuse(key, "it differs from layer to layer")
            value = value[0]
        # A whole number is read where a float is expected; a flag is no number.
        if isinstance(value, (int, kind)) and not isinstance(value, bool):
            return float(value) if kind is float else int(value)
        return self.metadata.require(full, kind)  # raises, with what is wrong
