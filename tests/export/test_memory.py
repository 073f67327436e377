"""What an export says that it took of memory."""

from __future__ import annotations

import sys

import psutil
import pytest

from nudge_onnx.export.support import memory

HOLDS = """
import sys
from nudge_onnx.export.support.memory import peak_memory
held = bytearray(int(sys.argv[1]))
held[::4096] = b"x" * len(held[::4096])
print(peak_memory())
"""


def test_the_peak_counts_a_program_together_with_the_one_that_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_beside", 0)
    alone = memory.peak_memory()
    assert alone is not None
    assert memory.run([sys.executable, "-c", HOLDS, str(2 * alone)]).returncode == 0
    beside = memory.peak_memory()
    assert beside is not None
    own = psutil.Process().memory_info().rss
    assert own + 2 * alone <= beside + (16 << 20)
    # Twice as much as it takes to import the package would be a figure that counts this process twice.
    assert beside < own + 2 * alone + (200 << 20)
