"""Answers that threads write and the event loop reads."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from nudge_onnx.runtime.lm import NudgedLM
from nudge_onnx.runtime.nudging.results import Answer, Piece
from nudge_onnx.runtime.stream import Cancellation, Stream

from .errors import ApiError
from .fair_queue import FairQueue, QueueFullError
from .metrics import Metrics
from .settings import Settings

__all__ = ["Engine", "Writing"]

Result = TypeVar("Result")

_PREPARED_AT_ONCE = 4
_LEAST_RETRY = 1


@dataclass(eq=False)
class Writing:
    """One answer on its way. Iterate for its pieces; then `answer` has the whole."""

    stream: Stream
    timed_out: bool = False
    """Whether the answer took too long and was cut."""
    _pieces: asyncio.Queue[Piece | None] = field(default_factory=asyncio.Queue)
    _error: BaseException | None = None

    @property
    def answer(self) -> Answer:
        """What was written."""
        return self.stream.answer

    def __aiter__(self) -> AsyncIterator[Piece]:
        return self

    async def __anext__(self) -> Piece:
        piece = await self._pieces.get()
        if piece is not None:
            return piece
        if self._error is not None:
            raise self._error
        raise StopAsyncIteration

    def cut(self) -> None:
        """End it, because it takes too long."""
        self.timed_out = True
        self.stream.close()

    def write(self, loop: asyncio.AbstractEventLoop) -> None:
        """Write the answer; for a thread."""
        try:
            for piece in self.stream:
                loop.call_soon_threadsafe(self._pieces.put_nowait, piece)
        except BaseException as error:
            self._error = error
        finally:
            self.stream.close()
            loop.call_soon_threadsafe(self._pieces.put_nowait, None)


class Engine:
    """A `NudgedLM` for many clients: a bounded queue, time limits, and a place that is free as soon as nobody waits."""

    def __init__(self, lm: NudgedLM, settings: Settings, metrics: Metrics) -> None:
        self.lm = lm
        self.settings = settings
        self.metrics = metrics
        self.queue = FairQueue(settings.places, settings.queue)
        self.draining = False
        """Whether new requests are refused, since the server is to stop."""
        self._writing: set[Writing] = set()
        self._seconds = 1.0  # that an answer takes, about
        self._writers = ThreadPoolExecutor(settings.places, thread_name_prefix="nudge-onnx answer")
        self._preparers = ThreadPoolExecutor(_PREPARED_AT_ONCE, thread_name_prefix="nudge-onnx prompt")

    @property
    def idle(self) -> bool:
        """Whether no answer is on its way."""
        return not self.queue.taken and not self.queue.waiting

    def admit(self, count: int) -> None:
        """Raise `ApiError` if so many answers more cannot be taken on."""
        if self.draining:
            raise ApiError(503, "the server is stopping; ask another one", headers={"Retry-After": "10"})
        most = self.settings.places + self.settings.queue
        if count > most:
            raise ApiError(400, f"the request asks for {count} answers, and this server takes on {most} at a time")
        try:
            self.queue.check(count)
        except QueueFullError:
            raise self._full() from None

    async def prepare(self, work: Callable[[], Result]) -> Result:
        """Do what takes a while and reads no model, such as to encode a prompt."""
        return await asyncio.get_running_loop().run_in_executor(self._preparers, work)

    @asynccontextmanager
    async def writing(self, stream: Stream, client: str) -> AsyncIterator[Writing]:
        """Wait for a place and have an answer written; what is left when the context ends is cancelled.

        The place is free once the pass that is being made has ended. Raises `ApiError` if there is no place in time.
        """
        writing = Writing(stream)
        async with self._place(client):
            loop = asyncio.get_running_loop()
            start = time.monotonic()
            timer = loop.call_later(self.settings.answer_seconds, writing.cut)
            self._writing.add(writing)
            thread = loop.run_in_executor(self._writers, writing.write, loop)
            try:
                yield writing
            finally:
                timer.cancel()
                stream.close()
                await _ended(thread)
                self._writing.discard(writing)
                self._seconds += 0.1 * (time.monotonic() - start - self._seconds)
                self.metrics.answered(writing.answer)

    async def read(self, work: Callable[[Cancellation], Result], client: str) -> Result:
        """Wait for a place and do what reads a model and writes nothing, until nobody waits or its time is up."""
        cancellation = Cancellation()
        async with self._place(client):
            loop = asyncio.get_running_loop()
            thread = loop.run_in_executor(self._writers, work, cancellation)
            timer = loop.call_later(self.settings.answer_seconds, cancellation.ask)
            try:
                return await asyncio.shield(thread)
            except Exception:
                if cancellation.asked:
                    raise ApiError(408, "the prompt took too long to read; send a shorter one") from None
                raise
            finally:
                timer.cancel()
                cancellation.ask()
                await _ended(thread)

    def cancel_all(self) -> None:
        """End all answers on their way."""
        for writing in list(self._writing):
            writing.cut()

    def close(self) -> None:
        """Let the threads end."""
        self.cancel_all()
        self._writers.shutdown(wait=False, cancel_futures=True)
        self._preparers.shutdown(wait=False, cancel_futures=True)

    @asynccontextmanager
    async def _place(self, client: str) -> AsyncIterator[None]:
        start = time.monotonic()
        place = self.queue.place(client)
        try:
            async with asyncio.timeout(self.settings.wait_seconds):
                await place.__aenter__()
        except (TimeoutError, QueueFullError):
            raise self._full() from None
        self.metrics.waited(time.monotonic() - start)
        try:
            yield
        finally:
            await place.__aexit__(None, None, None)

    def _full(self) -> ApiError:
        seconds = max(_LEAST_RETRY, round(self._seconds * (1 + self.queue.waiting / self.settings.places)))
        return ApiError(
            429,
            f"{self.queue.waiting} answers wait already; try again in {seconds} s",
            code="queue_full",
            headers={"Retry-After": str(seconds)},
        )


async def _ended(thread: asyncio.Future[Any]) -> None:
    """Wait until a thread has ended, even if this task is cancelled meanwhile: its place is not free before."""
    cancelled = False
    while not thread.done():
        try:
            await asyncio.wait([thread])
        except asyncio.CancelledError:
            cancelled = True
    if not thread.cancelled():
        thread.exception()  # told by whoever waits for the thread's result
    if cancelled:
        raise asyncio.CancelledError
