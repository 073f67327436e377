"""Log-probabilities of tokens as OpenAI's API tells them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from nudge_onnx.runtime.choosing.logprobs import TokenLogprobs
from nudge_onnx.runtime.nudging.results import Piece
from nudge_onnx.runtime.text.tokenizer import Tokenizer

__all__ = ["chat_logprobs", "completion_logprobs", "known_of", "token_text"]

# What the API says where a probability is 0, which JSON has no logarithm for.
_LEAST = -9999.0


def token_text(written: bytes) -> str:
    """What a token writes; half of a character as its bytes."""
    try:
        return written.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in written)


def chat_logprobs(piece: Piece, tokenizers: Mapping[str, Tokenizer]) -> list[dict[str, Any]]:
    """Of each token of a piece. Where a draft was cut inside a token there is none: `logprob` is null."""
    tokenizer = tokenizers[piece.source]

    def one(token: int, logprob: float | None) -> dict[str, Any]:
        written = tokenizer.bytes_of(token)
        return {"token": token_text(written), "logprob": _finite(logprob), "bytes": list(written)}

    return [
        {
            **one(token, known and known.logprob),
            "top_logprobs": [one(*top) for top in known.top] if known else [],
        }
        for token, known in known_of(piece)
    ]


def known_of(piece: Piece) -> list[tuple[int, TokenLogprobs | None]]:
    """The tokens of a piece, and what is known of each: of those that no model chose one by one, nothing."""
    known = piece.logprobs or (None,) * len(piece.token_ids)
    return list(zip(piece.token_ids, known, strict=True))


def completion_logprobs(
    tokens: Sequence[tuple[int, TokenLogprobs | None]], tokenizer: Tokenizer, count: int, offset: int = 0
) -> dict[str, list[Any]]:
    """Of tokens and what is known of each, whose text begins at a character; tops are as many as were asked for."""
    texts = [tokenizer.bytes_of(token) for token, _ in tokens]
    offsets = []
    data = b""
    for text in texts:
        offsets.append(offset + len(data.decode(errors="replace")))
        data += text
    return {
        "tokens": [token_text(text) for text in texts],
        "token_logprobs": [_finite(known and known.logprob) for _, known in tokens],
        "top_logprobs": [
            {token_text(tokenizer.bytes_of(token)): _finite(value) for token, value in reversed(known.top[:count])}
            if known
            else None
            for _, known in tokens
        ],
        "text_offset": offsets,
    }


def _finite(logprob: float | None) -> float | None:
    return None if logprob is None else logprob if math.isfinite(logprob) else _LEAST
