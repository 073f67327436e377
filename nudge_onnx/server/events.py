"""Server-sent events, with pings, that end as soon as the client has gone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

__all__ = ["DONE", "EventStream", "event", "gone"]

DONE = b"data: [DONE]\n\n"
_PING = b": ping\n\n"


def event(data: Any, name: str | None = None) -> bytes:
    """One event: JSON, with a name where the API has names."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return (f"event: {name}\n" if name else "").encode() + b"data: " + text.encode() + b"\n\n"


class EventStream(Response):
    """A response whose body is `first` and what a generator yields.

    The generator is closed by this response and by nothing else: at its end, or once the client has gone, also while
    it waits for what comes next.
    """

    media_type = "text/event-stream"

    def __init__(
        self, first: bytes, events: AsyncGenerator[bytes, None], ping_seconds: float, group_seconds: float = 0.0
    ) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._first = first
        self._events = events
        self._ping_seconds = ping_seconds
        self._group_seconds = group_seconds

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events; returns when the generator is closed."""
        sending = asyncio.ensure_future(self._send(send))
        watching = asyncio.ensure_future(gone(receive))
        try:
            await asyncio.wait([sending, watching], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sending, watching):
                task.cancel()
            found = await asyncio.gather(sending, watching, return_exceptions=True)
        if isinstance(found[0], Exception) and not isinstance(found[0], OSError):
            raise found[0]

    async def _send(self, send: Send) -> None:
        async with aclosing(self._events) as events:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await send({"type": "http.response.body", "body": self._first, "more_body": True})
            following = asyncio.ensure_future(anext(events, None))
            ended = False
            try:
                while not ended:
                    done, _ = await asyncio.wait([following], timeout=self._ping_seconds)
                    data = b"" if done else _PING
                    until = asyncio.get_running_loop().time() + self._group_seconds
                    while done and not ended:
                        more = following.result()
                        ended = more is None
                        if more is not None:
                            data += more
                            following = asyncio.ensure_future(anext(events, None))
                            left = until - asyncio.get_running_loop().time()
                            done = (await asyncio.wait([following], timeout=left))[0] if left > 0 else set()
                    if data:
                        await send({"type": "http.response.body", "body": data, "more_body": True})
            finally:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def gone(receive: Receive) -> None:
    """Wait until the client has gone; what else it sends is of no use."""
    while (await receive())["type"] != "http.disconnect":
        pass
