"""Several answers to one request, as they come."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from types import TracebackType
from typing import Any, TypeAlias

from starlette.requests import Request

from nudge_onnx.runtime.lm import PromptLike
from nudge_onnx.runtime.nudging.results import Answer, Piece
from nudge_onnx.runtime.options import StreamOptions
from nudge_onnx.runtime.stream import Stream

from .answers import Engine, Writing
from .errors import api_error
from .events import EventStream, event
from .requests import client_of, engine_of, while_connected

__all__ = [
    "Choices",
    "ending",
    "finish_reason",
    "origin",
    "prepare",
    "stream_events",
    "write_whole",
]

Events: TypeAlias = AsyncGenerator[bytes, None]


async def prepare(
    request: Request, asked: Callable[[], Sequence[tuple[PromptLike, StreamOptions]]], count: int
) -> list[Stream]:
    """The streams of `count` answers, their prompts encoded and options checked; nothing is read yet.

    `asked` says what they are; it is called in a thread. Raises `ApiError` if there is no room for so many, and what
    `NudgedLM.stream` raises.
    """
    engine = engine_of(request)
    engine.admit(count)
    return await engine.prepare(lambda: [engine.lm.stream(prompt, **options) for prompt, options in asked()])


class Choices:
    """Writes answers while the context lasts; what is left when it ends is cancelled, and has ended by then.

    Iterating gives `(index, piece)` as pieces come, and `(index, None)` at the end of each answer.
    """

    def __init__(self, request: Request, streams: Sequence[Stream]) -> None:
        self._engine: Engine = engine_of(request)
        self._client = client_of(request)
        self._streams = streams
        self._since: float = request.scope["nudge_onnx.since"]
        self._found: asyncio.Queue[tuple[int, Piece | None] | Exception | None] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []
        self.writings: dict[int, Writing] = {}
        """Those that have a place, by index."""

    async def __aenter__(self) -> Choices:
        self._tasks = [asyncio.create_task(self._write(index)) for index in range(len(self._streams))]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def begun(self) -> None:
        """Wait until the first answer has a place. Raises what keeps it from one."""
        found = await self._found.get()
        if isinstance(found, Exception):
            raise found

    def __aiter__(self) -> AsyncGenerator[tuple[int, Piece | None], None]:
        return self._parts()

    async def _parts(self) -> AsyncGenerator[tuple[int, Piece | None], None]:
        left = len(self._streams)
        while left:
            found = await self._found.get()
            if isinstance(found, Exception):
                raise found
            if found is None:
                continue
            left -= found[1] is None
            yield found

    async def _write(self, index: int) -> None:
        first = True
        try:
            async with self._engine.writing(self._streams[index], self._client) as writing:
                self.writings[index] = writing
                self._found.put_nowait(None)
                async for piece in writing:
                    if first:
                        self._engine.metrics.first_piece(time.monotonic() - self._since)
                        first = False
                    self._found.put_nowait((index, piece))
            self._found.put_nowait((index, None))
        except Exception as error:
            self._found.put_nowait(error)


async def write_whole(request: Request, streams: Sequence[Stream]) -> list[Writing]:
    """All answers, once they are whole. Raises what ended one of them, and `ClientGoneError`."""

    async def write() -> list[Writing]:
        async with Choices(request, streams) as choices:
            async for _ in choices:
                pass
            return [choices.writings[index] for index in range(len(streams))]

    return await while_connected(request, write())


async def stream_events(request: Request, make: Callable[[Choices], Events], streams: Sequence[Stream]) -> EventStream:
    """A response of the events that `make` makes of the answers; what ends one of them is the last event.

    Raises what keeps the first answer from a place, and `ClientGoneError`.
    """

    async def events() -> Events:
        async with Choices(request, streams) as choices:
            await choices.begun()
            try:
                async for data in make(choices):
                    yield data
            except Exception as error:
                yield event(api_error(error).body)

    source = events()
    first = await while_connected(request, anext(source))
    settings = engine_of(request).settings
    return EventStream(first, source, settings.ping_seconds, settings.group_seconds)


def finish_reason(writing: Writing) -> str:
    """Why an answer ended, in OpenAI's words; the answer's own word is in `nudge`."""
    return "stop" if writing.answer.finish_reason in ("stop", "repetition") else "length"


def origin(piece: Piece) -> dict[str, Any]:
    """Who wrote a piece, and how certain of each token; tokens of a text that was spelt anew have no probability."""
    return {"source": piece.source, "top1": list(piece.top1), "token_ids": list(piece.token_ids)}


def ending(writing: Writing, *, pieces: bool = False) -> dict[str, Any]:
    """What is known of an answer at its end."""
    answer: Answer = writing.answer
    found: dict[str, Any] = {
        "finish_reason": "time" if writing.timed_out else answer.finish_reason,
        "nudging_ratio": answer.nudging_ratio,
        "tokens": answer.tokens,
        "prefill_seconds": answer.timings.prefill,
        "decode_seconds": answer.timings.decode,
    }
    if pieces:
        found["pieces"] = [{"text": piece.text, **origin(piece)} for piece in answer.pieces]
    return found
