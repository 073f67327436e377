"""Log-probabilities of a token and of the most probable ones, from raw logits."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .gates import Softmax

__all__ = ["MOST_LOGPROBS", "TokenLogprobs", "token_logprobs"]

MOST_LOGPROBS = 20
"""The most tokens of one position that may be asked for."""


class TokenLogprobs(NamedTuple):
    """What a model finds of one position, before temperature, filters, bias and grammar."""

    token_id: int
    logprob: float
    """Natural logarithm of the probability of `token_id`."""
    top: tuple[tuple[int, float], ...]
    """The most probable tokens, as many as were asked for: ids and log-probabilities, the most probable first."""


def token_logprobs(softmax: Softmax, token_id: int, count: int) -> TokenLogprobs:
    """What the softmax of a row says of a token, and of the `count` most probable ones; ties by the smaller id."""
    logits = softmax.logits
    highest = np.argpartition(logits, -count)[-count:] if 0 < count < len(logits) else np.arange(len(logits))[:count]
    order = np.lexsort((highest, -logits[highest]))
    top = tuple((int(one), softmax.logprob(int(one))) for one in highest[order])
    return TokenLogprobs(token_id, softmax.logprob(token_id), top)
