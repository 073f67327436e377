"""The names that options choose from. Each list is written here once; `get_args` gives its names in order."""

from __future__ import annotations

from typing import Literal, TypeAlias

__all__ = ["ControlTokens", "GateName", "Mode", "Policy", "Precision", "ReadAhead", "Tail", "Target"]

Precision: TypeAlias = Literal["fp32", "fp16", "int8", "int4", "int4-all"]
"""What the weights of a graph are kept in."""

Target: TypeAlias = Literal["cpu", "cuda", "tensorrt"]
"""The execution provider that a graph is made for."""

Policy: TypeAlias = Literal["word", "token"]
"""Where the base model may take over from a draft (docs/decoding.md)."""

GateName: TypeAlias = Literal["top1", "margin", "entropy", "bet", "budget"]
"""What certainty means (docs/gates.md)."""

Tail: TypeAlias = Literal["draft", "lazy"]
"""Whether an end of the nudging model counts anywhere in a draft, or only before the base model takes over."""

Mode: TypeAlias = Literal["nudged", "base", "nudge", "ensemble", "proxy-tuning"]
"""Who writes an answer."""

ReadAhead: TypeAlias = Literal["auto", "off", "entropy"]
"""What is read ahead, by name; it may be a number of tokens instead."""

ControlTokens: TypeAlias = Literal["allow", "refuse", "escape"]
"""What happens to a message that spells a special token."""
