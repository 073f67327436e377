"""What a request is to every endpoint: its body, its client, and whether that one is still there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable
from typing import Any, TypeVar

from pydantic import BaseModel
from starlette.requests import Request

from nudge_onnx.choices import Mode

from .answers import Engine
from .errors import ApiError
from .events import gone
from .fields import AnswerFields

__all__ = [
    "ClientGoneError",
    "check_model",
    "client_of",
    "engine_of",
    "model_names",
    "read_body",
    "settle_mode",
    "while_connected",
]

Body = TypeVar("Body", bound=BaseModel)
Result = TypeVar("Result")


class ClientGoneError(Exception):
    """Nobody waits for the response any more."""


def engine_of(request: Request) -> Engine:
    """The engine behind the server."""
    engine: Engine = request.app.state.engine
    return engine


def client_of(request: Request) -> str:
    """Who asks: the key that was used, or else the address."""
    key: int | None = request.scope.get("nudge_onnx.key")
    if key is not None:
        return f"key {key}"
    return request.client.host if request.client else ""


async def read_body(request: Request, model: type[Body]) -> Body:
    """The body as an object of `model`. Raises `ApiError` and pydantic's `ValidationError`."""
    settings = engine_of(request).settings
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ApiError(415, "the body must be JSON, with content-type application/json")
    data = bytearray()
    try:
        async with asyncio.timeout(settings.receive_seconds):
            async for chunk in request.stream():
                data += chunk
                if len(data) > settings.body_bytes:
                    raise ApiError(413, f"the body is larger than {settings.body_bytes} bytes")
    except TimeoutError:
        raise ApiError(408, f"the body was not there within {settings.receive_seconds:g} s") from None
    try:
        found = json.loads(bytes(data), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise ApiError(400, f"the body is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise ApiError(400, "the body must be a JSON object")
    _check_text(found)
    return model.model_validate(found)


async def while_connected(request: Request, work: Awaitable[Result]) -> Result:
    """What `work` returns; it is cancelled, and ended, if the client goes before. Raises `ClientGoneError` then."""
    working = asyncio.ensure_future(work)
    watching = asyncio.ensure_future(gone(request.receive))
    try:
        await asyncio.wait([working, watching], return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientGoneError
    finally:
        for task in (working, watching):
            task.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)


def model_names(request: Request) -> dict[str, Mode | None]:
    """The names that clients may ask for, and who writes then; by the first one, whoever the request says.

    So a client that knows of models alone can ask for one of the two by itself.
    """
    here = engine_of(request).settings.model
    return {here: None, f"{here}:base": "base", f"{here}:nudge": "nudge"}


def check_model(request: Request, name: str) -> Mode | None:
    """Who writes as a model of that name. Raises `ApiError` if there is none."""
    names = model_names(request)
    if name not in names:
        known = ", ".join(map(repr, names))
        message = f"there is no model {name[:100]!r} here, only {known}"
        raise ApiError(404, message, param="model", code="model_not_found")
    return names[name]


def settle_mode(request: Request, body: AnswerFields) -> None:
    """Say in a body who writes, where its model's name does. Raises `ApiError` where the two differ."""
    mode = check_model(request, body.model)
    if mode is not None and body.nudge.mode not in (None, mode):
        raise ApiError(400, f"{body.model} is {mode} alone, and nudge.mode says {body.nudge.mode}", param="nudge.mode")
    body.nudge.mode = mode or body.nudge.mode


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def _check_text(value: Any) -> None:
    """Raise `ApiError` for half of a surrogate pair, which no encoding has."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ApiError(
            400, "the body has half of a surrogate pair (\\ud800 to \\udfff), which is no character"
        ) from None
    except RecursionError:
        raise ApiError(400, "the body is nested too deeply") from None
