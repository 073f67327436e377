"""The memory that this process holds, as Linux counts it."""

from __future__ import annotations

from pathlib import Path

__all__ = ["resident"]


def resident(field: str = "VmRSS") -> int:
    """Bytes of a field of /proc/self/status; "RssAnon" leaves out files that are mapped, as weights are."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split(f"{field}:")[1].split()[0]) << 10
