"""Nudging on ONNX Runtime: a large base model follows instructions with the help of a small aligned one.

from nudge_onnx import NudgedLM

lm = NudgedLM.load("bundle/")
print(lm.generate("Why is the sky blue?").text)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import (
    BundleError,
    ContextLengthError,
    ExportError,
    LogitsError,
    NudgeError,
    ProviderError,
    RuntimeMissingError,
    SourceError,
)

if TYPE_CHECKING:
    from .bundle import Bundle
    from .choices import Mode
    from .runtime.choosing.gates import Gate, Softmax
    from .runtime.choosing.grammar import Grammar
    from .runtime.choosing.logprobs import TokenLogprobs
    from .runtime.choosing.sampling import Sampling
    from .runtime.lm import NudgedLM
    from .runtime.nudging.results import Answer, Piece, Timings
    from .runtime.options import AnswerOptions, StreamOptions
    from .runtime.stream import Stream
    from .runtime.text.prompt import Message, RawPrompt

__all__ = [
    "Answer",
    "AnswerOptions",
    "Bundle",
    "BundleError",
    "ContextLengthError",
    "ExportError",
    "Gate",
    "Grammar",
    "LogitsError",
    "Message",
    "Mode",
    "NudgeError",
    "NudgedLM",
    "Piece",
    "ProviderError",
    "RawPrompt",
    "RuntimeMissingError",
    "Sampling",
    "Softmax",
    "SourceError",
    "Stream",
    "StreamOptions",
    "Timings",
    "TokenLogprobs",
]

__version__ = "0.1.0"

_HOMES = {
    "Answer": "runtime.nudging.results",
    "AnswerOptions": "runtime.options",
    "Bundle": "bundle",
    "Gate": "runtime.choosing.gates",
    "Grammar": "runtime.choosing.grammar",
    "Message": "runtime.text.prompt",
    "Mode": "choices",
    "NudgedLM": "runtime.lm",
    "Piece": "runtime.nudging.results",
    "RawPrompt": "runtime.text.prompt",
    "Sampling": "runtime.choosing.sampling",
    "Softmax": "runtime.choosing.gates",
    "Stream": "runtime.stream",
    "StreamOptions": "runtime.options",
    "Timings": "runtime.nudging.results",
    "TokenLogprobs": "runtime.choosing.logprobs",
}


def __getattr__(name: str) -> Any:
    # The runtime imports numpy, onnxruntime and tokenizers; who only reads a manifest should not wait for them.
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
