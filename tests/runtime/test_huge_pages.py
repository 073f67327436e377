"""Memory that is moved to large pages stays what it is, and memory that nobody uses stays nobody's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from nudge_onnx.runtime.system import huge_pages

MADVISE = sys.platform.startswith("linux") and "[madvise]" in (
    huge_pages.POLICY.read_text() if huge_pages.POLICY.exists() else ""
)
SIZE = huge_pages.SIZE

# A process of its own, whose memory nothing else touches.
PROGRAM = """
import threading
import numpy as np
from nudge_onnx.runtime.system.huge_pages import huge_pages

def rolled_up(field):
    lines = open("/proc/self/smaps_rollup").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))

# NumPy asks for large pages itself, bytes do not.
earlier = b"e" * (16 << 20)
with huge_pages():
    used = b"u" * (32 << 20)
    untouched = np.empty(64 << 20, np.uint8)
resident = rolled_up("Rss")
for thread in threading.enumerate():
    if thread.name == "huge pages":
        thread.join()
assert used.count(b"u") == 32 << 20
print(rolled_up("AnonHugePages"), rolled_up("Rss") - resident)
"""


@pytest.mark.skipif(not MADVISE, reason="large pages are not left to programs here")
def test_what_was_allocated_inside_and_used_comes_to_lie_in_large_pages() -> None:
    result = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    huge, grown = (int(number) for number in result.stdout.split())
    # 32 MiB inside, of which the first and the last page may be shared with something else.
    assert 20 << 10 <= huge <= 36 << 10
    assert grown < 40 << 10


@pytest.mark.parametrize("policy", ["[always] madvise never", "always madvise [never]", None])
def test_where_the_system_decides_nothing_is_done(
    policy: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "enabled"
    if policy is not None:
        file.write_text(policy)
    monkeypatch.setattr(huge_pages, "POLICY", file)
    monkeypatch.setattr(huge_pages.threading, "Thread", lambda *_, **__: pytest.fail("a thread was started"))
    with huge_pages.huge_pages():
        bytearray(8 << 20)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux has these priorities")
def test_at_real_time_priority_nothing_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "enabled"
    file.write_text("always [madvise] never")
    monkeypatch.setattr(huge_pages, "POLICY", file)
    assert huge_pages.wanted()
    monkeypatch.setattr(huge_pages.os, "sched_getscheduler", lambda _: huge_pages.os.SCHED_FIFO)
    assert not huge_pages.wanted()


@pytest.mark.parametrize(
    ("ranges", "known", "expected"),
    [
        ([(0, 8)], [], [(0, 8)]),
        ([(0, 8)], [(0, 8)], []),
        ([(0, 8)], [(2, 3), (5, 6)], [(0, 2), (3, 5), (6, 8)]),
        ([(0, 4), (6, 9)], [(0, 4), (7, 8)], [(6, 7), (8, 9)]),
        ([(4, 6)], [(0, 5), (8, 9)], [(5, 6)]),
    ],
)
def test_what_is_new_among_the_mapped_ranges(
    ranges: list[tuple[int, int]], known: list[tuple[int, int]], expected: list[tuple[int, int]]
) -> None:
    def pages(pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
        return [(start * SIZE, end * SIZE) for start, end in pairs]

    assert huge_pages.new_whole_pages(pages(ranges), pages(known)) == pages(expected)


def test_only_whole_large_pages_count() -> None:
    assert huge_pages.new_whole_pages([(SIZE - 1, 3 * SIZE + 1), (5 * SIZE + 1, 6 * SIZE)], []) == [(SIZE, 3 * SIZE)]
