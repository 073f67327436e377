"""The application: endpoints, and what stands around them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from nudge_onnx.errors import NudgeError
from nudge_onnx.runtime.lm import NudgedLM

from . import about
from .answers import Engine
from .chat import chat_completions
from .completions import completions
from .doors import Doors
from .errors import ApiError, as_response, on_error
from .metrics import Metrics
from .openapi import openapi
from .requests import ClientGoneError
from .responses import responses
from .settings import Settings
from .tokens import detokenize, tokenize, tokenizer_info

__all__ = ["application"]

_PAGE = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)


def application(lm: NudgedLM, settings: Settings) -> Starlette:
    """The ASGI application of a bundle that is open; it closes nothing that it did not open."""
    metrics = Metrics()
    engine = Engine(lm, settings, metrics)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        try:
            yield
        finally:
            engine.close()

    post, get = ["POST"], ["GET"]
    routes = [
        Route("/v1/chat/completions", chat_completions, methods=post),
        Route("/v1/completions", completions, methods=post),
        Route("/v1/responses", responses, methods=post),
        Route("/v1/models", about.models, methods=get),
        Route("/v1/models/{name:path}", about.model, methods=get),
        Route("/tokenize", tokenize, methods=post),
        Route("/detokenize", detokenize, methods=post),
        Route("/tokenizer_info", tokenizer_info, methods=get),
        Route("/healthz", about.healthy, methods=get),
        Route("/readyz", about.ready, methods=get),
        Route("/metrics", about.metrics, methods=get),
        Route("/openapi.json", openapi, methods=get),
        *(Route(path, _file(*file), methods=get) for path, file in _PAGE.items()),
    ]
    open_paths = frozenset((*_PAGE, "/healthz", "/readyz", "/openapi.json"))
    paths = frozenset(route.path for route in routes)
    middleware = [Middleware(Doors, settings=settings, metrics=metrics, paths=paths, open_paths=open_paths)]
    if settings.origins:
        # Outside: a page must be able to read why it was refused.
        middleware.insert(
            0,
            Middleware(
                CORSMiddleware,
                allow_origins=list(settings.origins),
                allow_methods=["GET", "POST"],
                allow_headers=["authorization", "content-type"],
            ),
        )
    app = Starlette(
        routes=routes,
        middleware=middleware,
        lifespan=lifespan,
        exception_handlers={
            ApiError: on_error,
            ValidationError: on_error,
            NudgeError: on_error,
            HTTPException: _http_error,
            ClientGoneError: _gone,
            Exception: on_error,
        },
    )
    app.state.engine = engine
    return app


def _file(name: str, kind: str) -> type[object]:
    """An endpoint that gives one file of the page, which is read now."""
    data = (files("nudge_onnx.server") / "page" / name).read_bytes()

    async def endpoint(_request: Request) -> Response:
        headers = {"Content-Security-Policy": _POLICY, "Cache-Control": "no-cache"}
        return Response(data, media_type=kind, headers=headers)

    return endpoint  # type: ignore[return-value]


async def _http_error(request: Request, error: Exception) -> Response:
    """What Starlette refuses by itself: paths and methods that there are none of."""
    assert isinstance(error, HTTPException)
    words = {404: "there is no such path here", 405: f"{request.method} is not to be had here"}
    return as_response(ApiError(error.status_code, words.get(error.status_code, error.detail), headers=error.headers))


async def _gone(_request: Request, _error: Exception) -> Response:
    """Nobody reads it; the status is what nginx writes to its log in this case."""
    return Response(status_code=499)
