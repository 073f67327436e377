"""Some thousand short requests, of which some are left in the middle, end at the memory that they began with."""

from __future__ import annotations

import subprocess
import sys

import pytest
from real import EVERY

REQUESTS = 3000 // EVERY
MIB = 2**20


@pytest.mark.slow
def test_a_soak_ends_at_the_memory_that_it_began_with() -> None:
    # In a process of its own: what other tests have left in the heap of this one moves with every request.
    command = [sys.executable, "-m", "tests.server.soak", str(REQUESTS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    more = int(done.stdout) / MIB
    assert more < 16, f"{more:.1f} MiB more"
