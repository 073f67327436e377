"""The processors that one x86-64 Linux machine can stand for, and how a program is run as one of them."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["LEVELS", "Level", "Way", "faulting_library", "way_to"]

SOURCE = Path(__file__).with_name("older_processor.c")


@dataclass(frozen=True)
class Level:
    """A processor: its name for `older_processor.c`, and the newest thing it has, as /proc/cpuinfo spells it."""

    name: str
    example: str
    newest: str
    emulated: tuple[str, ...] = ()
    """Programs that offer about as much, for machines where CPUID does not fault."""


LEVELS = (
    Level("avx512", "Skylake-X", "avx512bw"),
    Level("avxvnni", "Alder Lake", "avx_vnni"),
    Level("avx2", "Haswell to Zen 3", "avx2", ("valgrind -q --tool=none", "qemu-x86_64 -cpu max")),
    Level("avx", "Sandy Bridge", "avx"),
    Level("sse4", "Nehalem", "sse4_2", ("qemu-x86_64 -cpu Nehalem",)),
)


@dataclass(frozen=True)
class Way:
    """How to run a program as another processor: what stands before it, and variables."""

    title: str
    prefix: tuple[str, ...] = ()
    variables: dict[str, str] = field(default_factory=dict)
    slow: bool = False


def way_to(level: Level, library: Path | None) -> Way | str:
    """The quickest way that this machine has, or why there is none. `library` is what `faulting_library` built."""
    if level.newest not in _features():
        return f"this processor has no {level.newest}"
    if library is not None:
        return Way("CPUID faults", variables={"OLDER_PROCESSOR": level.name, "LD_PRELOAD": str(library)})
    for command in level.emulated:
        if shutil.which(command.split()[0]):
            return Way(command, tuple(command.split()), slow=True)
    return "CPUID does not fault here" + (", and there is no qemu-user or valgrind" if level.emulated else "")


def faulting_library(folder: Path) -> Path | None:
    """`older_processor.c` compiled to a library in `folder`; None where it cannot be, or CPUID does not fault."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux" or platform.machine() != "x86_64":
        return None
    folder.mkdir(parents=True, exist_ok=True)
    library = folder / "older_processor.so"
    flags = ["-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-Wl,-z,initfirst"]
    subprocess.run([compiler, *flags, SOURCE, "-o", library], check=True)
    variables = {**os.environ, "OLDER_PROCESSOR": "sse4", "LD_PRELOAD": str(library)}
    tried = subprocess.run([sys.executable, "-c", ""], env=variables, capture_output=True, check=False)
    return library if tried.returncode == 0 else None


def _features() -> set[str]:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    return {name for line in lines if line.startswith("flags") for name in line.split(":")[1].split()}
