"""Errors as OpenAI's API tells of them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from nudge_onnx.errors import ContextLengthError, LogitsError, NudgeError

__all__ = ["ApiError", "api_error", "as_response", "on_error", "validation_error"]

_log = logging.getLogger(__name__)


class ApiError(Exception):
    """A request that is not answered, and why."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})
        self.body: dict[str, Any] = {"error": {"message": message, "type": _type(status), "param": param, "code": code}}
        """What the client is told."""


def _type(status: int) -> str:
    known = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
    return known.get(status, "invalid_request_error" if status < 500 else "server_error")


def api_error(error: Exception) -> ApiError:
    """What a client is told of an error; what is not its own fault is logged, and told in general words."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, ValidationError):
        return validation_error(error)
    if isinstance(error, ContextLengthError):
        return ApiError(400, str(error), code="context_length_exceeded")
    if isinstance(error, NudgeError) and not isinstance(error, LogitsError):
        return ApiError(400, str(error))
    _log.error("a request failed", exc_info=error)
    return ApiError(500, str(error) if isinstance(error, NudgeError) else "the server failed; its log says why")


def validation_error(error: ValidationError) -> ApiError:
    """The first thing that is wrong with a request's body."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    first = found[0]
    # Of a field that may be one of several kinds, each says why it is none of it: a reason is more than a type.
    alike = [one for one in found if one["loc"][:1] == first["loc"][:1]]
    first = min(alike, key=lambda one: one["type"].endswith("_type"))
    places = [str(part) for part in first["loc"] if not _is_kind(str(part))]
    param = ".".join(places) or None
    if first["type"] == "extra_forbidden":
        return ApiError(400, f"{param} is not supported by this server", param=param, code="unsupported_parameter")
    reason = first["msg"].removeprefix("Value error, ")
    return ApiError(400, f"{param}: {reason}" if param else reason, param=param)


def _is_kind(part: str) -> bool:
    """Whether a part of a place is the name that pydantic has for one of several kinds, and not a field's."""
    return part in ("str", "int", "float") or not part.replace("_", "").isalnum() or part[:1].isupper()


def as_response(error: ApiError) -> Response:
    """The response that tells of an error."""
    return JSONResponse(error.body, error.status, headers=error.headers)


async def on_error(_request: Request, error: Exception) -> Response:
    """Starlette's handler of every exception."""
    return as_response(api_error(error))
