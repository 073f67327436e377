"""`python -m tests.real_soak BUNDLE ANSWERS` prints, in bytes, how memory grows from each quarter of them to the next.

Answers are short, eight at once, and every fifth is cancelled.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

from nudge_onnx import NudgedLM
from nudge_onnx.runtime.system.memory import return_freed_memory
from tests.resident import resident


def soak(lm: NudgedLM, count: int) -> list[int]:
    """Bytes held behind each quarter more than behind the one before; nothing is left at work."""

    def write(number: int) -> None:
        with lm.stream(f"Say {number}", max_new_tokens=2 + number % 5, mode=("nudge", "base")[number % 2]) as stream:
            for _ in stream:
                if number % 5 == 0:
                    return

    held = []
    with ThreadPoolExecutor(8) as threads:
        for _ in range(4):
            list(threads.map(write, range(count // 4)))
            lm.pool.clear()
            return_freed_memory()
            held.append(resident("RssAnon"))
    assert lm.scheduler.at_work == 0
    assert lm.pool.lent == ()
    return [after - before for before, after in pairwise(held)]


if __name__ == "__main__":
    with NudgedLM.load(sys.argv[1]) as opened:
        print(*soak(opened, int(sys.argv[2])))
