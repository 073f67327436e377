"""Serves an application with uvicorn, and stops it so that answers may go on to their ends."""

from __future__ import annotations

import asyncio
import signal
import time
from types import FrameType
from typing import Any

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from nudge_onnx.errors import NudgeError
from nudge_onnx.runtime.lm import NudgedLM

from .answers import Engine
from .app import application
from .settings import Settings

__all__ = ["serve", "server_of"]

_KEEP_ALIVE_SECONDS = 30
# Once all answers have ended: for a client that takes its time to read, or reads nothing.
_SEND_SECONDS = 5


def serve(lm: NudgedLM, settings: Settings) -> None:
    """Serve until a signal comes: SIGINT or SIGTERM lets answers end, and a second one ends them.

    Raises `NudgeError` if the address cannot be had.
    """
    app = application(lm, settings)
    try:
        server_of(app, settings).run()
    except SystemExit:
        raise NudgeError(
            f"{settings.host}:{settings.port} cannot be listened on; is another server there already?"
        ) from None
    finally:
        app.state.engine.close()


def server_of(app: Starlette, settings: Settings) -> uvicorn.Server:
    """What serves an application of `application`; `run` returns once it has stopped, and closes no engine."""
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=_protocol(settings.receive_seconds),
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        lifespan="off",
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_SEND_SECONDS,
    )
    return _Server(config, app.state.engine, settings.grace_seconds)


class _Server(uvicorn.Server):  # type: ignore[misc]
    """Goes on answering after the first signal, and refuses what comes then, until nothing is on its way."""

    def __init__(self, config: uvicorn.Config, engine: Engine, grace_seconds: float) -> None:
        super().__init__(config)
        self._engine = engine
        self._grace_seconds = grace_seconds
        self._until: float | None = None

    def handle_exit(self, sig: int, _frame: FrameType | None) -> None:
        """Begin to stop, or stop now."""
        if self._until is not None or self._grace_seconds == 0:
            self._engine.cancel_all()
            self.should_exit = True
            self.force_exit = sig == signal.SIGINT and self._until is not None
        self._engine.draining = True
        self._until = time.monotonic() + self._grace_seconds

    async def on_tick(self, counter: int) -> bool:
        """Whether to stop; called ten times a second."""
        if self._until is not None and (self._engine.idle or time.monotonic() > self._until):
            self._engine.cancel_all()
            self.should_exit = True
        stop: bool = await super().on_tick(counter)
        return stop


def _protocol(seconds: float) -> type[asyncio.Protocol]:
    """HTTP/1.1 that closes a connection whose request line and headers are not there in time."""

    class Protocol(H11Protocol):  # type: ignore[misc]
        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._wait()

        def data_received(self, data: bytes) -> None:
            if self._timer is None and (self.cycle is None or self.cycle.response_complete):
                self._wait()
            super().data_received(data)
            if self.cycle is not None and not self.cycle.response_complete:
                self._stop_waiting()

        def on_response_complete(self) -> None:
            self._stop_waiting()
            super().on_response_complete()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_waiting()
            super().connection_lost(exc)

        def _wait(self) -> None:
            self._timer = self.loop.call_later(seconds, self._expired)

        def _stop_waiting(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _expired(self) -> None:
            self._timer = None
            if self.transport is not None and not self.transport.is_closing():
                self.transport.close()

    return Protocol
