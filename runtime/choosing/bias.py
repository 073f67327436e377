"""Logit bias: tokens that a caller wants more often, or never."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nudge_onnx.arguments import integer, must_be, number
from nudge_onnx.errors import NudgeError

from ..inference.outputs import Logits
from ..text.tokenizer import Tokenizer

__all__ = ["TokenBias", "checked_bias", "translated"]

_MOST = 100.0


@dataclass(frozen=True)
class TokenBias:
    """What is added to the logits of some tokens: `ids` int64 and `values` float32, both `[tokens]`."""

    ids: npt.NDArray[np.int64]
    values: npt.NDArray[np.float32]

    @classmethod
    def of(cls, bias: Mapping[int, float]) -> TokenBias:
        """A bias by token id."""
        return cls(np.array(list(bias), np.int64), np.array(list(bias.values()), np.float32))

    def added(self, logits: Logits) -> Logits:
        """A copy of logits `[vocabulary]` with the bias added."""
        logits = logits.copy()
        logits[self.ids] += self.values
        return logits


def checked_bias(bias: Any) -> dict[int, float]:
    """A bias by token id, each from -100 to 100; raises `NudgeError` for anything else."""
    if not isinstance(bias, Mapping):
        raise must_be("logit_bias", "a mapping of token ids to numbers", bias)
    return {
        integer("a token id of logit_bias", token, 0): number("a value of logit_bias", value, -_MOST, _MOST)
        for token, value in bias.items()
    }


def translated(
    bias: Mapping[int, float],
    own: tuple[Tokenizer, Collection[int]],
    other: tuple[Tokenizer, Collection[int]],
) -> dict[int, float]:
    """A bias in the tokens of another model: those that write the same text, and for an end, its ends.

    Each model is its tokenizer and the ids that end what it writes. Raises `NudgeError` for an id that one of them has
    none for.
    """
    (tokenizer, ends), (other_tokenizer, other_ends) = own, other
    found: dict[int, float] = {}
    for token, value in bias.items():
        if token >= tokenizer.size:
            raise NudgeError(f"logit_bias names the token {token}, and the model has {tokenizer.size} of them")
        if tokenizer is other_tokenizer:
            found[token] = value
        elif token in ends:
            found |= dict.fromkeys(other_ends, value)
        else:
            found[_same(token, tokenizer, other_tokenizer)] = value
    return found


def _same(token: int, tokenizer: Tokenizer, other: Tokenizer) -> int:
    """The token of another model that writes what this one does."""
    written = tokenizer.bytes_of(token)
    text = written.decode(errors="replace")
    ids = other.encode_inside(text) if written else []
    if len(ids) != 1 or other.bytes_of(ids[0]) != written:
        raise NudgeError(
            f"logit_bias names the token {token} ({text!r}), which the other model has no token of its own for; "
            "leave it out, or let one model write alone (mode base or nudge)"
        )
    return ids[0]
