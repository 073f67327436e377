"""What the server says of itself: its model, its health, its counters, its API."""

from __future__ import annotations

from datetime import datetime

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from nudge_onnx import __version__

from .requests import check_model, engine_of, model_names

__all__ = ["healthy", "metrics", "model", "models", "ready"]


async def models(request: Request) -> Response:
    """The bundle, and each of its two models alone."""
    return JSONResponse({"object": "list", "data": [_record(request, name) for name in model_names(request)]})


async def model(request: Request) -> Response:
    """The model of that name."""
    name = request.path_params["name"]
    check_model(request, name)
    return JSONResponse(_record(request, name))


async def healthy(_request: Request) -> Response:
    """The process answers."""
    return PlainTextResponse("ok\n")


async def ready(request: Request) -> Response:
    """Requests are taken on."""
    draining = engine_of(request).draining
    return PlainTextResponse("stopping\n" if draining else "ready\n", 503 if draining else 200)


async def metrics(request: Request) -> Response:
    """Counters for Prometheus."""
    engine = engine_of(request)
    text = engine.metrics.text(engine.queue.taken, engine.queue.waiting)
    return Response(text, media_type=engine.metrics.content_type)


def _record(request: Request, name: str) -> dict[str, object]:
    engine = engine_of(request)
    manifest = engine.lm.bundle.manifest
    return {
        "id": name,
        "object": "model",
        "created": _seconds(manifest.created),
        "owned_by": "nudge-onnx",
        "max_model_len": min(one.context_length for one in manifest.models.values()),
        "nudge": {
            "version": __version__,
            "gamma": manifest.defaults.gamma,
            "policy": manifest.defaults.policy,
            "gate": manifest.defaults.gate,
            "gate_temperature": manifest.defaults.gate_temperature,
            "tail": manifest.defaults.tail,
            "draft_tokens": manifest.defaults.draft_tokens,
            "shared_vocabulary": manifest.shared_vocabulary,
            "models": {
                role: {"source": one.source.name, "licence": one.source.licence, "context_length": one.context_length}
                for role, one in manifest.models.items()
            },
        },
    }


def _seconds(created: str) -> int:
    try:
        return int(datetime.fromisoformat(created).timestamp())
    except ValueError:
        return 0
