"""Nudging on ONNX Runtime: a large base model follows instructions with the help of a small aligned one.

from nudge_onnx import NudgedLM

lm = NudgedLM.load("bundle/")
print(lm.generate("Why is the sky blue?").text)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import NudgeError

if TYPE_CHECKING:
    from .bundle import Bundle
    from .runtime.lm import NudgedLM
    from .runtime.results import Answer, Piece

__all__ = ["Answer", "Bundle", "NudgeError", "NudgedLM", "Piece"]

__version__ = "0.1.0"

_HOMES = {"Answer": "runtime.results", "Bundle": "bundle", "NudgedLM": "runtime.lm", "Piece": "runtime.results"}


def __getattr__(name: str) -> Any:
    # The runtime imports numpy, onnxruntime and tokenizers; who only reads a manifest should not wait for them.
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
