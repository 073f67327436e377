"""Many prompts, answered some at a time."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress

from nudge_onnx.errors import NudgeError

from .nudging.results import Answer, Timings
from .stream import Stream

__all__ = ["answers"]


def answers(begin: Iterable[Callable[[], Stream]], at_once: int) -> Generator[Answer, None, None]:
    """The answers of streams that `begin` starts, in their order; so many are written at a time.

    What cannot be begun, or fails, is an answer whose `finish_reason` is `error`. `begin` is read a little ahead of
    what was written. Closing the iterator, or an interrupt, cancels all that is on its way.
    """
    running = _Running()
    waiting: deque[Future[Answer]] = deque()
    threads = ThreadPoolExecutor(at_once, thread_name_prefix="nudge-onnx answer")
    try:
        for start in begin:
            waiting.append(threads.submit(running.answer, start))
            while len(busy := [one for one in waiting if not one.done()]) >= at_once:
                wait(busy, return_when=FIRST_COMPLETED)
            while waiting and waiting[0].done():
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        running.cancel()
        threads.shutdown(wait=True, cancel_futures=True)


class _Running:
    """The streams on their way, so that any thread may cancel them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._streams: set[Stream] = set()
        self._cancelled = False

    def answer(self, start: Callable[[], Stream]) -> Answer:
        """Start one and read it to its end."""
        try:
            stream = start()
        except NudgeError as error:
            return Answer("", (), "error", Timings(), str(error))
        with self._lock:
            if self._cancelled:
                stream.close()
            self._streams.add(stream)
        try:
            with suppress(Exception):  # which the answer tells of
                for _ in stream:
                    pass
        finally:
            with self._lock:
                self._streams.discard(stream)
        return stream.answer

    def cancel(self) -> None:
        with self._lock:
            self._cancelled = True
            for stream in self._streams:
                stream.close()
