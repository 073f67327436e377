"""What a step inside ONNX Runtime is made of, beside what reading its weights would take at the least."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from benchmarks.engines import Worker, cores, open_variant
from benchmarks.models import VARIANTS
from benchmarks.places import TITLES, size_of
from benchmarks.plots import panels, stacked
from benchmarks.report import Report
from benchmarks.single import ROLES
from benchmarks.texts import ids_of

PROMPT, STEPS, PROFILED = 64, 64, 100
TAKING_PART = ("nudge-onnx int8", "nudge-onnx int4", "nudge-onnx int4-all")
PARTS = ("products", "attention", "norms", "activation", "the rest")
_READ, _READS = 128 << 20, 4
ABOUT = f"""
A step behind {PROMPT} tokens. *ms a step* is measured without a profiler; the parts are what ONNX Runtime's profiler
says, which makes a step longer, and small operators most of all. *products* are the MatMulNBits that multiply with
weights, *attention* is GroupQueryAttention with the choice of its branch, *the rest* the uncertainty head, lengths,
embedding, and what joins block sums to inputs. A step reads every weight once, so it takes at least as long as reading
them: *memory* is the speed at which NumPy, with a thread per core, reads arrays that no cache holds, right before in
each round, for other guests of the machine take from it what they will.
"""


def operators(rounds: int) -> None:
    """Profile steps of each precision and write the results."""
    report = Report("operators", "What a step in ONNX Runtime is made of", ABOUT)
    shown: dict[str, dict[str, float]] = {}
    for role in ROLES:
        lines = []
        for title in TAKING_PART:
            found = _measured(title, role, rounds)
            report.data[f"{role}, {title}"] = found
            lines.append((title, *_cells(found)))
            shown[f"{TITLES[role].split('-')[0]}, {title.removeprefix('nudge-onnx ')}"] = {
                part: 1e3 * found["parts"].get(part, 0.0) for part in PARTS
            }
            print(f"operators: {title}, {role} model: done", file=sys.stderr)
        head = ("", "MB", "ms a step", "GB/s", "memory, GB/s", "share of it", "ms profiled", *PARTS)
        report.table(TITLES[role], head, lines)
    with panels(report.name, [report.title], (7.4, 3.2)) as (axes, path):
        stacked(axes[0], shown, "ms a step, with the profiler")
    report.picture(path, "Milliseconds of a step by kind of operator")
    report.save()


def _measured(title: str, role: str, rounds: int) -> dict[str, Any]:
    """Seconds of a step and the speed of memory in each round, seconds by part, and bytes of weights."""
    variant, ids = VARIANTS[title], ids_of(role, PROMPT)
    memory, seconds = [], []
    with open_variant(variant, role, 512) as worker:
        for _ in range(rounds + 1):
            memory.append(read_speed(cores()))
            seconds.append(worker.ask("decode", ids=ids, count=STEPS)["seconds"] / STEPS)
    with Worker("profiled", "ours") as worker:
        parts = worker.ask("profile", bundle=str(variant.model(role)), role=role, ids=ids, count=PROFILED)
    weights = size_of(*variant.files(role))
    # The first round warms up.
    return {"seconds": seconds[1:], "memory_bytes_per_second": memory[1:], "parts": parts, "bytes": weights}


def _cells(found: Mapping[str, Any]) -> Iterator[str]:
    """The columns of one line of the table."""
    seconds, memory, parts, weights = (found[k] for k in ("seconds", "memory_bytes_per_second", "parts", "bytes"))
    step, profiled = statistics.median(seconds), sum(parts.values())
    share = statistics.median(weights / taken / speed for taken, speed in zip(seconds, memory, strict=True))
    yield f"{weights / 1e6:.0f}"
    yield f"{1e3 * step:.2f}"
    yield f"{weights / step / 1e9:.1f}"
    yield f"{statistics.median(memory) / 1e9:.1f}"
    yield f"{100 * share:.0f} %"
    yield f"{1e3 * profiled:.2f}"
    for part in PARTS:
        yield f"{100 * parts.get(part, 0.0) / profiled:.0f} %"


def read_speed(threads: int) -> float:
    """Bytes a second that `threads` threads read together, each from an array of its own; the best of a few."""
    arrays = [np.zeros(_READ // 8, np.int64) for _ in range(threads)]
    for array in arrays:
        array.fill(1)  # else its pages would all be the one that holds zeros
    best = 0.0
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(_READS):
            begun = time.perf_counter()
            list(pool.map(np.bitwise_or.reduce, arrays))
            best = max(best, threads * _READ / (time.perf_counter() - begun))
    return best
