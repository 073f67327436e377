"""How much memory this machine has left, and how much a process and its children took."""

from __future__ import annotations

from pathlib import Path

__all__ = ["available_memory", "gibibytes"]

_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def available_memory() -> int:
    """Bytes that could be taken now, by the machine or the control group that this process is in."""
    import psutil

    return min([int(psutil.virtual_memory().available), *_limits()])


def gibibytes(count: float) -> str:
    """Bytes as a text of one decimal."""
    return f"{count / 2**30:.1f} GiB"


def _limits() -> list[int]:
    found = []
    for path in _LIMITS:
        try:
            text = Path(path).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            continue
        if text.isdecimal():
            found.append(int(text))
    return found
