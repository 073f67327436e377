"""What a process is told of its memory and of the time that loading took."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from pairs import Pair

from nudge_onnx import NudgedLM
from nudge_onnx.runtime.system import memory

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


def test_an_answer_knows_its_load_time_and_the_peak_of_memory(tiny_word_pair: Pair) -> None:
    with NudgedLM.load(tiny_word_pair.bundle) as lm:
        before = lm.peak_memory
        timings = lm.generate("the cat", max_new_tokens=4).timings
        assert timings.load == lm.load_seconds > 0
        assert before is not None
        assert timings.peak_memory is not None
        # Python and ONNX Runtime alone take 40 MiB; a figure in KiB or pages would be far off.
        assert 40 << 20 < before <= timings.peak_memory <= (lm.peak_memory or 0)


@linux
def test_the_peak_is_that_of_this_program_and_not_of_the_one_that_started_it() -> None:
    ballast = np.ones(400 << 20, np.uint8)
    code = "from nudge_onnx.runtime.system.memory import peak_memory; print(peak_memory())"
    peak = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert peak < ballast.nbytes


@linux
def test_without_proc_the_peak_comes_from_the_c_library(monkeypatch: pytest.MonkeyPatch) -> None:
    said = memory.peak_memory()
    monkeypatch.setattr(memory.Path, "read_text", lambda *_, **__: (_ for _ in ()).throw(OSError()))
    other = memory.peak_memory()
    assert said is not None
    assert other is not None
    assert other >= said // 2


@linux
def test_zeros_take_memory_where_something_is_written_and_are_no_other_process_s() -> None:
    code = """
import os
from pathlib import Path
from nudge_onnx.runtime.system.pages import sparse_zeros

def resident():
    return int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0]) << 10

before = resident()
zeros = sparse_zeros((8, 256 << 20), "int8")
zeros[3, :1 << 20] = 1
assert resident() - before < 16 << 20, resident() - before
assert not zeros[4, :100].any()
if os.fork() == 0:
    zeros[3, 0] = 2
    os._exit(0)
os.wait()
assert zeros[3, 0] == 1
"""
    subprocess.run([sys.executable, "-c", code], check=True)
