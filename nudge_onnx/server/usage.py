"""What a request took, as OpenAI's API counts it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nudge_onnx.runtime.stream import Stream

from .answers import Writing

__all__ = ["prompt_tokens", "usage"]


def prompt_tokens(streams: Sequence[Stream]) -> int:
    """Tokens of prompts, as the first model of those that write reads them: the base model, where both do."""
    return sum(next(iter(stream.prompt_tokens.values())) for stream in streams)


def usage(read: int, writings: Sequence[Writing]) -> dict[str, Any]:
    """Tokens that were read and written."""
    written = sum(sum(writing.answer.tokens.values()) for writing in writings)
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
