"""An answer on its way, and how it ends before its time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import TracebackType

from nudge_onnx.errors import NudgeError

from .nudging.loop import Pieces
from .nudging.results import Answer, FinishReason, Piece, Timings

__all__ = ["Cancellation", "Stream"]


class _CancelledError(Exception):
    """Ends a pass that nobody waits for any more."""


class Cancellation:
    """Whether an answer is still wanted."""

    def __init__(self) -> None:
        self.asked = False
        """Whether it is not."""

    def ask(self) -> None:
        """Say that it is not. Any thread may."""
        self.asked = True

    def check(self) -> None:
        """Called before each pass: ends the answer there if it was cancelled."""
        if self.asked:
            raise _CancelledError


class Stream(Iterator[Piece]):
    """An answer on its way: iterate for its pieces; `close` cancels it; `answer` has what is there so far.

    Also a context manager that closes. One thread iterates; any thread may close.
    """

    def __init__(
        self, pieces: Pieces, timings: Timings, cancellation: Cancellation, prompt_tokens: Mapping[str, int]
    ) -> None:
        self.prompt_tokens = prompt_tokens
        """How many tokens the prompt has for each model that takes part, by role."""
        self._source = pieces
        self._pieces: list[Piece] = []
        self._timings = timings
        self._cancellation = cancellation
        self._finish: FinishReason | None = None
        self._error: str | None = None

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> Piece:
        if self._finish is not None:
            raise StopIteration
        try:
            piece = next(self._source)
        except StopIteration as end:
            self._finish = self._finish or end.value
            raise StopIteration from None
        except _CancelledError:
            raise StopIteration from None
        except BaseException as error:
            if _busy(error):
                raise NudgeError(
                    "this stream is being read by another thread; give each thread a stream of its own"
                ) from None
            # Whatever it was, it ends this answer only: the caches take part in the next one.
            if self._finish is None:
                interrupted = isinstance(error, KeyboardInterrupt)
                self._finish, self._error = ("cancelled", None) if interrupted else ("error", _reason(error))
            raise
        if self._cancellation.asked:
            # Closed by another thread, which could not give the caches back while this one was at work.
            self._give_back()
            raise StopIteration
        self._pieces.append(piece)
        return piece

    def close(self) -> None:
        """Cancel what is left; a no-op once the answer has ended.

        Any thread may call it. If another one waits for a piece, the answer ends there before the next pass.
        """
        if self._finish is None:
            self._finish = "cancelled"
        self._cancellation.ask()
        self._give_back()

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
        finish = self._finish or "cancelled"
        return Answer("".join(p.text for p in pieces), pieces, finish, self._timings, self._error)

    def _give_back(self) -> None:
        try:
            self._source.close()
        except ValueError as error:
            # At work in another thread, or around this very call: it gives back what it has before the next pass.
            if not _busy(error):
                raise


def _busy(error: BaseException) -> bool:
    """Whether a generator was called while it runs, which Python itself finds out without a gap."""
    return isinstance(error, ValueError) and str(error) == "generator already executing"


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, NudgeError) else f"{type(error).__name__}: {text}".removesuffix(": ")
