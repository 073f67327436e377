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
