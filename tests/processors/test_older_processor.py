"""What stands for an older processor hides what that one lacks, and leaves the rest of a program alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from levels import LEVELS, Way, faulting_library, way_to

SEEN = "from numpy._core._multiarray_umath import __cpu_features__ as f; print(*(name for name in f if f[name]))"
LACKS = {"avx512": "AVX512VNNI", "avxvnni": "AVX512F", "avx2": "AVX512F", "avx": "AVX2", "sse4": "AVX"}
HAS = {"avx512": "AVX512F", "avxvnni": "AVX2", "avx2": "AVX2", "avx": "AVX", "sse4": "SSE42"}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    built = faulting_library(tmp_path_factory.mktemp("library"))
    if built is None:
        pytest.skip("no C compiler, or CPUID does not fault here")
    return built


def run(way: Way, code: str) -> subprocess.CompletedProcess[str]:
    command = [*way.prefix, sys.executable, "-c", code]
    return subprocess.run(command, env={**os.environ, **way.variables}, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.name)
def test_a_program_sees_the_features_of_the_older_processor(library, level):
    way = way_to(level, library)
    if isinstance(way, str):
        pytest.skip(way)
    seen = run(way, SEEN).stdout.split()
    assert HAS[level.name] in seen
    assert LACKS[level.name] not in seen


def test_threads_and_children_see_the_same(library):
    way = way_to(next(level for level in LEVELS if level.name == "sse4"), library)
    inner = f"import subprocess, sys; print(subprocess.check_output([sys.executable, '-c', {SEEN!r}], text=True))"
    threaded = f"import threading; t = threading.Thread(target=exec, args=({inner!r}, {{}})); t.start(); t.join()"
    seen = run(way, threaded).stdout.split()
    assert "SSE42" in seen
    assert "AVX" not in seen


@pytest.mark.parametrize("before", ["", "import faulthandler; faulthandler.enable(); "])
def test_a_real_fault_still_ends_a_program(library, before):
    way = way_to(next(level for level in LEVELS if level.name == "sse4"), library)
    ended = run(way, before + "import ctypes; ctypes.string_at(0)")
    assert ended.returncode == -signal.SIGSEGV
    assert ("Segmentation fault" in ended.stderr) == bool(before)


def test_an_unknown_processor_is_refused(library):
    ended = run(Way("", variables={"OLDER_PROCESSOR": "z80", "LD_PRELOAD": str(library)}), "")
    assert ended.returncode == 77
    assert "OLDER_PROCESSOR is none of avx512vnni, avx512," in ended.stderr
