"""Who may ask: the middleware in front of everything. Nothing of a refused request is read but its headers."""

from __future__ import annotations

import hmac
import logging
import time
from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .errors import ApiError, as_response
from .metrics import Metrics
from .settings import Settings

__all__ = ["Doors"]

_log = logging.getLogger(__name__)

_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-resource-policy": "same-origin",
}


class Doors:
    """Checks host, origin and key; counts and logs each request by path and status, and says no more of it."""

    def __init__(
        self,
        app: ASGIApp,
        settings: Settings,
        metrics: Metrics,
        paths: Collection[str],
        open_paths: Collection[str],
    ) -> None:
        """`paths` are counted and logged by name, all others as one: a stranger's are of any number and say anything.

        `open_paths` need no key: what they show is the same for everybody.
        """
        self._app = app
        self._settings = settings
        self._metrics = metrics
        self._paths = paths
        self._open_paths = open_paths
        self._hosts = settings.allowed_hosts
        self._keys = [key.encode() for key in settings.keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope["nudge_onnx.since"] = start = time.monotonic()
        status = 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
                message = {**message, "headers": [*own, *message["headers"]]}
            await send(message)

        try:
            try:
                self._check(scope)
            except ApiError as error:
                await as_response(error)(scope, receive, sending)
            else:
                await self._app(scope, receive, sending)
        except Exception:
            status = 500
            raise
        finally:
            path = scope["path"] if scope["path"] in self._paths else "other"
            self._metrics.requested(path, status)
            _log.info("%s %s %s %.0f ms", scope["method"], path, status or "gone", 1e3 * (time.monotonic() - start))

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        host = headers.get("host", "").lower()
        # A page of the web may have its own name point here (DNS rebinding); its browser says that name.
        if self._hosts is not None and _name(host) not in self._hosts:
            raise ApiError(421, "this server is not called by that name; start it with --allow-host to let it be")
        origin = headers.get("origin")
        own = f"{scope['scheme']}://{host}"
        if origin is not None and origin.lower() != own and not self._allows(origin):
            raise ApiError(403, "pages of this origin may not ask here; start the server with --cors to let them")
        if (
            self._keys and scope["path"] not in self._open_paths and scope["method"] != "OPTIONS"
        ):  # of which nothing is told
            scope["nudge_onnx.key"] = self._key(headers.get("authorization", ""))

    def _allows(self, origin: str) -> bool:
        return "*" in self._settings.origins or origin in self._settings.origins

    def _key(self, authorization: str) -> int:
        """Which key was sent. All are compared, each in constant time."""
        scheme, _, given = authorization.partition(" ")
        sent = given.strip().encode("utf-8", "surrogateescape")
        same = [hmac.compare_digest(sent, key) for key in self._keys]
        if scheme.lower() != "bearer" or not any(same):
            raise ApiError(
                401,
                "this server needs a key: send it as Authorization: Bearer KEY",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )
        return same.index(True)


def _name(host: str) -> str:
    """A `Host` without its port."""
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]
