"""An answer on its way."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType

from .loop import Pieces
from .results import Answer, FinishReason, Piece, Timings

__all__ = ["Stream"]


class Stream(Iterator[Piece]):
    """An answer on its way: iterate for its pieces; `close` cancels it; `answer` has what is there so far.

    Also a context manager that closes. Not for two threads at once.
    """

    def __init__(self, pieces: Pieces, timings: Timings) -> None:
        self._source = pieces
        self._pieces: list[Piece] = []
        self._timings = timings
        self._finish: FinishReason | None = None

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> Piece:
        if self._finish is not None:
            raise StopIteration
        try:
            piece = next(self._source)
        except StopIteration as end:
            self._finish = end.value
            raise
        except BaseException:
            # Ctrl-C in the middle of a pass ends this answer; the caches take part in the next one.
            self._finish = "cancelled"
            raise
        self._pieces.append(piece)
        return piece

    def close(self) -> None:
        """Cancel what is left; a no-op once the answer has ended."""
        if self._finish is None:
            self._finish = "cancelled"
        self._source.close()

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def answer(self) -> Answer:
        """The answer so far; its `finish_reason` is `cancelled` until it has ended."""
        pieces = tuple(self._pieces)
        return Answer("".join(p.text for p in pieces), pieces, self._finish or "cancelled", self._timings)
