"""`GET /openapi.json`: the API as OpenAPI 3.1 describes it, made from what the endpoints check."""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from nudge_onnx import __version__

from .chat import ChatBody
from .completions import CompletionBody
from .requests import model_names
from .responses import ResponseBody
from .tokens import DetokenizeBody, TokenizeBody

__all__ = ["openapi"]

_POSTS: dict[str, tuple[type[BaseModel], str]] = {
    "/v1/chat/completions": (ChatBody, "Answer a conversation."),
    "/v1/completions": (CompletionBody, "Go on with texts as they stand."),
    "/v1/responses": (ResponseBody, "Answer a conversation; nothing is stored."),
    "/tokenize": (TokenizeBody, "The ids of a text or a conversation."),
    "/detokenize": (DetokenizeBody, "The text of ids."),
}
_GETS = {
    "/v1/models": "The model that is served.",
    "/v1/models/{name}": "The model of that name.",
    "/tokenizer_info": "What a client needs to make prompts itself.",
    "/healthz": "The process answers.",
    "/readyz": "Requests are taken on.",
    "/metrics": "Counters for Prometheus.",
}
_REFUSALS = {
    "400": "The request is wrong; the error says where.",
    "401": "The key is missing or wrong.",
    "403": "Pages of this origin may not ask.",
    "404": "There is no such model.",
    "408": "The body, or reading the prompt, took too long.",
    "413": "The body is too large.",
    "415": "The body is not said to be JSON.",
    "421": "The server is not called by that name.",
    "429": "Too many answers wait; Retry-After says when to come back.",
    "503": "The server is stopping.",
}


async def openapi(request: Request) -> Response:
    """The description."""
    return JSONResponse(_description(tuple(model_names(request))))


@cache
def _description(names: tuple[str, ...]) -> dict[str, Any]:
    models = sorted({model for model, _ in _POSTS.values()}, key=lambda model: model.__name__)
    references, definitions = models_json_schema(
        [(model, "validation") for model in models], ref_template="#/components/schemas/{model}"
    )
    for schema in definitions["$defs"].values():
        if "model" in schema.get("properties", {}):
            schema["properties"]["model"] = {"type": "string", "enum": list(names)}
    answer = {"200": {"description": "The answer."}}
    refusals = {status: {"description": text} for status, text in _REFUSALS.items()}
    paths: dict[str, Any] = {}
    for path, (model, text) in _POSTS.items():
        schema = references[model, "validation"]
        body = {"required": True, "content": {"application/json": {"schema": schema}}}
        paths[path] = {"post": {"summary": text, "requestBody": body, "responses": {**answer, **refusals}}}
    for path, text in _GETS.items():
        operation: dict[str, Any] = {"summary": text, "responses": {**answer, **refusals}}
        if "{name}" in path:
            operation["parameters"] = [
                {"name": "name", "in": "path", "required": True, "schema": {"type": "string", "enum": list(names)}}
            ]
        paths[path] = {"get": operation}
    return {
        "openapi": "3.1.0",
        "info": {"title": "nudge-onnx", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": definitions["$defs"],
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"key": []}],
    }
