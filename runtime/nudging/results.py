"""What a stream yields and what is known once it has ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ..choosing.logprobs import TokenLogprobs

__all__ = ["Answer", "FinishReason", "Piece", "SourceName", "Timings"]

SourceName = Literal["base", "nudge"]
FinishReason = Literal["stop", "length", "repetition", "cancelled", "error"]


@dataclass(frozen=True)
class Piece:
    """A stretch of the answer by one model: one token of the base model, or the accepted part of one draft.

    `text` never holds half a character. `token_ids` are ids of the model named by `source`. `top1` has one entry a
    token: the largest probability of that model's softmax where it chose the token, or `None` where the draft was cut
    inside a token. `logprobs` is empty unless they were asked for; then it has one entry a token, too.
    """

    text: str
    source: SourceName
    token_ids: tuple[int, ...]
    top1: tuple[float | None, ...]
    logprobs: tuple[TokenLogprobs | None, ...] = ()


@dataclass
class Timings:
    """Seconds of wall time, what the models were fed, and memory."""

    load: float = 0.0
    """Opening the bundle, sessions and tokenizers (once per `NudgedLM`)."""
    prefill: float = 0.0
    """From the call to both prompts being in the caches."""
    decode: float = 0.0
    """From there to the end of the answer."""
    fed: dict[str, int] = field(default_factory=dict)
    """Tokens that each model was fed, prompt included; what a cache already held is not fed again."""
    passes: dict[str, int] = field(default_factory=dict)
    """Forward passes of each model."""
    peak_memory: int | None = None
    """Most bytes that the process held up to the answer's end; `None` where the system does not say."""


@dataclass(frozen=True)
class Answer:
    """A finished answer."""

    text: str
    pieces: tuple[Piece, ...]
    finish_reason: FinishReason
    timings: Timings
    error: str | None = None
    """What went wrong, in one line, where `finish_reason` is `error`."""

    @property
    def tokens(self) -> dict[str, int]:
        """How many tokens of the answer each model wrote."""
        counts = {"base": 0, "nudge": 0}
        for piece in self.pieces:
            counts[piece.source] += len(piece.token_ids)
        return counts

    @property
    def nudging_ratio(self) -> float:
        """The nudging model's share of the tokens of the answer, 0 for an empty one."""
        counts = self.tokens
        total = sum(counts.values())
        return counts["nudge"] / total if total else 0.0

    @property
    def tokens_per_second(self) -> float:
        """Tokens of the answer per second of `timings.decode`."""
        return sum(self.tokens.values()) / self.timings.decode if self.timings.decode else 0.0

    def to_dict(self) -> Mapping[str, Any]:
        """A JSON-ready view, as `nudge-onnx run --json` prints it."""
        return {
            "text": self.text,
            "finish_reason": self.finish_reason,
            "error": self.error,
            "nudging_ratio": self.nudging_ratio,
            "tokens": self.tokens,
            "tokens_per_second": self.tokens_per_second,
            "timings": vars(self.timings),
            "pieces": [
                {"text": p.text, "source": p.source, "token_ids": list(p.token_ids), "top1": list(p.top1)}
                for p in self.pieces
            ],
        }
