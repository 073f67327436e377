"""What every engine can be asked to do, whatever it is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy.typing as npt


@dataclass(frozen=True)
class Opening:
    """What an engine is to open: `model` is a bundle, a folder or a file, as its engine wants it."""

    model: str
    role: str
    threads: int
    context: int
    """The most positions that will be used."""


class Engine(Protocol):
    """One model and the cache of one text, greedy throughout.

    `prefill`, `choose` and `decode` are the engine's own fastest way to do it; `extend` and `rewind` are for callers
    with a loop of their own.
    """

    def prefill(self, ids: Sequence[int]) -> int:
        """Empty the cache, read `ids`, and choose the token after them."""

    def choose(self, ids: Sequence[int]) -> int:
        """Append `ids` in one pass, and choose the token after them."""

    def decode(self, token: int, count: int) -> list[int]:
        """Choose `count` more tokens after `token`, which was chosen last, in `count` single steps."""

    def clear(self) -> None:
        """Empty the cache."""

    def extend(self, ids: Sequence[int], every: bool = False) -> npt.NDArray[Any]:
        """Append `ids` in one pass; float32 logits `[vocabulary]` after the last.

        With `every`, logits are computed after each of them: `[len(ids), vocabulary]`.
        """

    def rewind(self, length: int) -> None:
        """Forget all positions from `length` on."""
