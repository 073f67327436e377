"""The server as a Ray Serve application: `serve run nudge_onnx.cluster.serving:app bundle=/srv/bundle`.

A front end without a model hands each request to a replica, and to another one if that replica dies before it has
answered anything. A replica is the very application that `nudge-onnx serve` serves, called in memory.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from ray.exceptions import RayActorError
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from nudge_onnx.runtime.lm import NudgedLM
from nudge_onnx.server.app import application
from nudge_onnx.server.errors import ApiError, as_response
from nudge_onnx.server.settings import Settings, read_keys

__all__ = ["Arguments", "Front", "Replica", "app"]

_log = logging.getLogger(__name__)

# Ray's proxy takes a while for each piece of a stream, so what comes within this time is sent as one.
_GROUP_SECONDS = 0.05
_MOST_TRIES = 4


class Arguments(BaseModel):
    """What `serve run` may be given, as `name=value`."""

    model_config = ConfigDict(extra="forbid")

    bundle: str
    """Folder of the bundle; every machine must have it there."""
    name: str | None = None
    """Name of the model, by default the folder's."""
    api_key_file: str | None = None
    places: int = Field(8, ge=1, le=64)
    """Answers that a replica writes at a time; where more are asked for, Ray starts another replica."""
    queue: int = Field(8, ge=0)
    """Answers that may wait at a replica."""
    replicas: int = Field(1, ge=1)
    """Replicas at the least."""
    most_replicas: int = Field(1, ge=1)
    """Replicas at most; Ray starts and stops them by how many requests there are."""
    cpus: int = Field(2, ge=1)
    """Cores of a replica."""
    max_tokens: int = Field(1024, ge=1)


@dataclass(frozen=True)
class _Call:
    """A request, in a form that travels."""

    method: str
    path: str
    query: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes
    client: tuple[str, int] | None


class Replica:
    """One process with both models open."""

    def __init__(self, arguments: Arguments) -> None:
        folder = Path(arguments.bundle)
        settings = Settings(
            model=arguments.name or folder.resolve().name,
            host="0.0.0.0",
            keys=read_keys(Path(arguments.api_key_file)) if arguments.api_key_file else (),
            places=arguments.places,
            queue=arguments.queue,
            max_tokens=arguments.max_tokens,
            group_seconds=_GROUP_SECONDS,
        )
        self._lm = NudgedLM.load(folder, slots=arguments.places, threads=arguments.cpus)
        self._app = application(self._lm, settings)

    async def answer(self, call: _Call) -> AsyncGenerator[Any, None]:
        """Status and headers, then the body piece by piece. Closing the generator ends what is being written."""
        found: asyncio.Queue[Mapping[str, Any] | None] = asyncio.Queue()
        gone = asyncio.Event()
        sent = False

        async def receive() -> dict[str, Any]:
            nonlocal sent
            if not sent:
                sent = True
                return {"type": "http.request", "body": call.body, "more_body": False}
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Mapping[str, Any]) -> None:
            found.put_nowait(message)

        async def run() -> None:
            try:
                await self._app(_scope(call), receive, send)
            finally:
                found.put_nowait(None)

        task = asyncio.create_task(run())
        try:
            while (message := await found.get()) is not None:
                if message["type"] == "http.response.start":
                    yield message["status"], list(message["headers"])
                elif message.get("body"):
                    yield bytes(message["body"])
        finally:
            gone.set()
            await asyncio.gather(task, return_exceptions=True)

    def process(self) -> int:
        """The id of its process."""
        return os.getpid()

    def check_health(self) -> None:
        """Called by Ray; there is nothing that could be wrong without an error of its own."""


class Front:
    """Takes requests and hands them to replicas. What has not begun to be answered is asked of another replica."""

    def __init__(self, replicas: Any) -> None:
        self._replicas = replicas.options(stream=True)

    async def __call__(self, request: Request) -> Response:
        """Answer one request."""
        client = (request.client.host, request.client.port) if request.client else None
        call = _Call(
            request.method,
            request.scope["path"],
            request.scope["query_string"],
            list(request.headers.raw),
            await request.body(),
            client,
        )
        for attempt in range(1, _MOST_TRIES + 1):
            answer = self._replicas.answer.remote(call)
            try:
                status, headers = await anext(answer)
            except RayActorError:
                _log.warning("a replica died before it answered; try %d of %d", attempt, _MOST_TRIES)
                continue
            response = StreamingResponse(_rest(answer), status)
            response.raw_headers = headers
            return response
        return as_response(ApiError(503, "no replica answers; try again", headers={"Retry-After": "10"}))


async def _rest(answer: Any) -> AsyncGenerator[bytes, None]:
    ended = False
    try:
        async for part in answer:
            yield part
        ended = True
    finally:
        if not ended:
            answer.cancel()


def app(arguments: dict[str, Any]) -> Any:
    """The application; Ray Serve calls this with what stands behind its name. Raises pydantic's `ValidationError`."""
    asked = Arguments.model_validate(arguments)
    most = max(asked.replicas, asked.most_replicas)
    ongoing = asked.places + asked.queue
    replica = serve.deployment(Replica).options(
        name="replica",
        ray_actor_options={"num_cpus": asked.cpus},
        max_ongoing_requests=ongoing,
        autoscaling_config={
            "min_replicas": asked.replicas,
            "initial_replicas": asked.replicas,
            "max_replicas": most,
            "target_ongoing_requests": asked.places,
        },
        health_check_period_s=5,
        graceful_shutdown_timeout_s=30,
    )
    front = serve.deployment(Front).options(
        name="front", ray_actor_options={"num_cpus": 0}, max_ongoing_requests=max(ongoing * most * 2, 100)
    )
    return front.bind(replica.bind(asked))


def _scope(call: _Call) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": call.method,
        "scheme": "http",
        "path": call.path,
        "raw_path": call.path.encode(),
        "query_string": call.query,
        "root_path": "",
        "headers": call.headers,
        "client": call.client,
        "server": None,
        "state": {},
    }
