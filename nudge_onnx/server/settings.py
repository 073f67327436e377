"""What a server allows, and whom."""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path

from nudge_onnx.errors import NudgeError

__all__ = ["Settings", "read_keys"]

_LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]")
_SHORTEST_KEY = 16


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Limits and doors of a server. All times are seconds."""

    model: str = ""
    """The name under which clients ask for the bundle."""
    host: str = "127.0.0.1"
    port: int = 8000
    keys: tuple[str, ...] = ()
    """Clients must know one of these; with none, anybody may ask."""
    origins: tuple[str, ...] = ()
    """Web pages of these origins may ask, too (CORS)."""
    hosts: tuple[str, ...] = ()
    """Names by which the server may be called besides its own; needed where it listens on loopback only."""
    places: int = 8
    """Answers that are written at a time."""
    queue: int = 64
    """Answers that may wait for a place."""
    max_tokens: int = 1024
    """Tokens of an answer where a client of the chat does not say."""
    body_bytes: int = 4 << 20
    """Most bytes of a request's body."""
    answer_seconds: float = 600.0
    """An answer that takes longer is cut."""
    wait_seconds: float = 120.0
    """An answer that waited so long for a place is refused."""
    receive_seconds: float = 30.0
    """A request must be there within this time, and its headers within as much."""
    ping_seconds: float = 10.0
    """A stream that has nothing to say says so this often."""
    group_seconds: float = 0.0
    """What a stream says within this time is sent as one, for proxies that take long for each piece."""
    grace_seconds: float = 30.0
    """So long, once the server is to stop, answers on their way may go on."""

    def named(self, model: str) -> Settings:
        """These settings for a model of that name."""
        return replace(self, model=model)

    @property
    def local(self) -> bool:
        """Whether the server listens on this machine's own addresses only."""
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def allowed_hosts(self) -> frozenset[str] | None:
        """What a request's `Host` may be, without a port; `None` for anything."""
        if not self.local and not self.hosts:
            return None
        own = f"[{self.host}]" if ":" in self.host else self.host
        return frozenset(name.lower() for name in (*_LOCAL_NAMES, own, *self.hosts))


def read_keys(path: Path) -> tuple[str, ...]:
    """The keys of a file, one a line; `#` begins a comment.

    Raises `NudgeError` for a file that cannot be read, has no key, or one of under 16 characters or beyond ASCII.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise NudgeError(f"the key file {path} cannot be read ({error})") from None
    keys = tuple(line for line in lines if line and not line.startswith("#"))
    if not keys:
        raise NudgeError(f"the key file {path} has no key; write one a line, as `openssl rand -hex 32` makes them")
    for number, key in enumerate(keys, 1):
        if len(key) < _SHORTEST_KEY or not key.isascii() or not key.isprintable() or " " in key:
            raise NudgeError(
                f"key {number} of {path} must have {_SHORTEST_KEY} or more printable ASCII characters and no space"
            )
    return keys
