"""What engines share whose one primitive is a pass: everything greedy is an arg-max of what it returns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy.typing as npt

__all__ = ["Stepping"]


class Stepping(ABC):
    """An engine with a loop of this program's, not of its own."""

    def prefill(self, ids: Sequence[int]) -> int:
        self.clear()
        return self.choose(ids)

    def choose(self, ids: Sequence[int]) -> int:
        return int(self.extend(ids).argmax())

    def decode(self, token: int, count: int) -> list[int]:
        tokens = [token]
        for _ in range(count):
            tokens.append(self.choose(tokens[-1:]))
        return tokens[1:]

    @abstractmethod
    def clear(self) -> None:
        """As `Engine.clear`."""

    @abstractmethod
    def extend(self, ids: Sequence[int], every: bool = False) -> npt.NDArray[Any]:
        """As `Engine.extend`."""
