"""A server that runs in a thread, on a port of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from nudge_onnx import NudgedLM
from nudge_onnx.server.app import application
from nudge_onnx.server.run import server_of
from nudge_onnx.server.settings import Settings

WORD = Path(__file__).parents[1] / "conformance" / "bundles" / "word"
TOKEN = WORD.with_name("token")
MODEL = "tiny"
MESSAGES = [{"role": "user", "content": "Tell me about rivers."}]


class Running:
    """A server, and a client of it."""

    def __init__(self, lm: NudgedLM, server: uvicorn.Server, port: int) -> None:
        self.lm = lm
        self.server = server
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.client = httpx.Client(base_url=self.url, timeout=30)
        self.engine = server.config.app.state.engine  # type: ignore[union-attr]

    def post(self, path: str, **body: Any) -> httpx.Response:
        return self.client.post(path, json={"model": MODEL, **body})

    def chat(self, **body: Any) -> httpx.Response:
        return self.post("/v1/chat/completions", **{"messages": MESSAGES, "max_tokens": 16, **body})

    def wait_until_idle(self) -> None:
        until = time.monotonic() + 10
        while not self.engine.idle:
            assert time.monotonic() < until, "the place is not free"
            time.sleep(0.01)


@contextmanager
def running(lm: NudgedLM, **settings: Any) -> Iterator[Running]:
    """Serve until the context ends."""
    chosen = Settings(**{"model": MODEL, "port": 0, **settings})
    server = server_of(application(lm, chosen), chosen)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until = time.monotonic() + 20
    while not server.started:
        assert thread.is_alive()
        assert time.monotonic() < until
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    found = Running(lm, server, port)
    try:
        yield found
    finally:
        found.client.close()
        server.should_exit = server.force_exit = True
        thread.join(20)
        assert not thread.is_alive()
        found.engine.close()
