"""How much memory this process may still take, and how much it took."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

__all__ = ["available_memory", "gibibytes", "peak_memory", "run"]

_GROUPS = Path("/sys/fs/cgroup")

_beside = 0
"""The most that this process and one that it waited for held together."""


def available_memory() -> int:
    """Bytes that could be taken now: what the machine has free, and what the limits of this process leave.

    Limits are those of its control groups, and what `ulimit -d` and `-v` set.
    """
    import psutil

    held = psutil.Process().memory_info()
    private = held.rss - getattr(held, "shared", 0)
    return min([int(psutil.virtual_memory().available), *(max(0, limit - private) for limit in _limits())])


def gibibytes(count: float) -> str:
    """Bytes as a text of one decimal."""
    return f"{count / 2**30:.1f} GiB"


def run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Wait for a program whose last line of output is its own `peak_memory`, which then counts for that of this one."""
    import psutil

    global _beside
    held = psutil.Process().memory_info().rss
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    said = done.stdout.split()
    if said and said[-1].isdecimal():
        _beside = max(_beside, held + int(said[-1]))
    return done


def peak_memory() -> int | None:
    """Bytes that this process, with the one it waited for, held in memory at its largest; `None`: not to be known here.

    Files that are mapped into memory count, as far as they were read.
    """
    own = _own_peak()
    return None if own is None else max(own, _beside)


def _own_peak() -> int | None:
    # What Linux gives as a resource is at least what the program held that started this one.
    with contextlib.suppress(OSError, UnicodeDecodeError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:  # there are none on Windows
        return None
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024


def _limits() -> Iterator[int]:
    for file in _group_files():
        try:
            text = file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            continue
        if text.isdecimal():
            yield int(text)
    try:
        import resource
    except ImportError:  # there are none on Windows
        return
    for kind in (resource.RLIMIT_DATA, resource.RLIMIT_AS):
        soft, _ = resource.getrlimit(kind)
        if soft != resource.RLIM_INFINITY:
            yield soft


def _group_files() -> Iterator[Path]:
    """Where limits of this process's control groups stand, of both versions."""
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return
    for line in lines:
        _, kinds, path = line.split(":", 2)
        # In a container the path may be that of the machine outside.
        for place in (path.lstrip("/"), ""):
            if "memory" in kinds.split(","):
                yield _GROUPS / "memory" / place / "memory.limit_in_bytes"
            elif not kinds:
                yield _GROUPS / place / "memory.max"
