"""What a model takes besides time: memory, time to load, and room on the disk for engine and model."""

from __future__ import annotations

import statistics
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import peers
from benchmarks.engines import Worker, cores
from benchmarks.models import VARIANTS
from benchmarks.places import BUNDLES, TITLES, size_of, there
from benchmarks.plots import bars, panels
from benchmarks.report import Report
from benchmarks.rounds import turned
from benchmarks.single import ROLES, chosen
from benchmarks.texts import PROMPTS, ids_of
from nudge_onnx.bundle import Bundle

PROMPT, STEPS = 256, 16
MIB = 2**20
PRECISIONS = ("fp32", "int8", "int4")
DEFAULT = [title for title in VARIANTS if "pruned" not in title]
# What a program may take that holds weights and cache once: a tenth more, and room for Python and its libraries.
FACTOR, ROOM = 1.1, 150 * MIB
LOAD_GOAL = 2.0
ABOUT = f"""
Every figure is of a fresh process whose files the system had in memory already (a warm start). *Import* and *load* are
the library and the model; *ready* is from the start of the process to the model being open. *Peak* is the most that was
ever resident while it loaded, read {PROMPT} tokens and wrote {STEPS}; pages of mapped files count where they were
touched. *Allowed* is {FACTOR} times weights and cache, and {ROOM // MIB} MiB.
"""


def footprint(rounds: int, only: Sequence[str] = ()) -> None:
    """Measure fresh processes and write the results."""
    report = Report("footprint", "Memory, load time, size", ABOUT)
    _environments(report)
    _pairs(report, rounds)
    peaks = {}
    for role in ROLES:
        peaks[role] = _models(report, role, chosen(only, DEFAULT), rounds)
    with panels(report.name, [TITLES[role] for role in peaks], (5.6, 4.2)) as (axes, path):
        for axis, values in zip(axes, peaks.values(), strict=True):
            bars(axis, values, "peak memory, MiB", smallest_first=True)
    report.picture(path, "The most memory that each engine took")
    report.save()


def _environments(report: Report) -> None:
    sizes = {name: peers.installed_bytes(name) for name in peers.NAMES}
    report.table(
        "Installed packages, without Python and pip",
        ("", "MB"),
        [(peers.title_of(name), f"{size / 1e6:.0f}") for name, size in sorted(sizes.items(), key=lambda item: item[1])],
    )
    report.data["installed_bytes"] = sizes


def _models(report: Report, role: str, titles: Sequence[str], rounds: int) -> dict[str, float]:
    """A table of all engines with the model of one role; returns the peaks in MiB."""
    found: dict[str, list[dict[str, float]]] = defaultdict(list)
    for number in range(rounds + 1):
        for title in turned(titles, number):
            measured = _open_once(title, role)
            if number:
                found[title].append(measured)
        print(
            f"footprint, {role} model: " + (f"round {number} of {rounds}" if number else "warmed up"), file=sys.stderr
        )
    medians = {title: _medians(values) for title, values in found.items()}
    rows = []
    for title in sorted(medians, key=lambda title: medians[title]["peak"]):
        one, weights = medians[title], size_of(*VARIANTS[title].files(role))
        allowed = FACTOR * (weights + _cache_bytes(role, PROMPT + STEPS)) + ROOM
        rows.append(
            (
                title,
                f"{weights / MIB:.0f}",
                f"{one['peak'] / MIB:.0f}",
                f"{allowed / MIB:.0f}",
                *(f"{one[key]:.2f}" for key in ("import_s", "load_s", "ready_s")),
            )
        )
    head = ("", "weights, MiB", "peak, MiB", "allowed, MiB", "import, s", "load, s", "ready, s")
    report.table(TITLES[role], head, rows)
    report.data[role] = medians
    return {title: one["peak"] / MIB for title, one in medians.items()}


def _open_once(title: str, role: str) -> dict[str, float]:
    variant = VARIANTS[title]
    with Worker(variant.engine, variant.engine) as worker:
        times = worker.ask("load", model=str(variant.model(role)), role=role, threads=cores(), context=512)
        ready = worker.age
        worker.ask("decode", ids=ids_of(role, PROMPT), count=STEPS)
        return {**times, "ready_s": ready, **worker.ask("memory")}


def _pairs(report: Report, rounds: int) -> None:
    """The whole of nudge-onnx: two models, their tokenizers, an answer."""
    rows = []
    for precision in PRECISIONS:
        folder = there(BUNDLES / precision)
        found = []
        for _ in range(rounds):
            with Worker("nudged", "ours") as worker:
                times = worker.ask("load", bundle=str(folder))
                ready = worker.age
                worker.ask("answer", prompt=PROMPTS[0], tokens=64)
                found.append({**times, "ready_s": ready, **worker.ask("memory")})
        print(f"footprint, {precision} pair: done", file=sys.stderr)
        one, weights = _medians(found), _weights(folder)
        allowed = FACTOR * (weights + sum(_cache_bytes(role, 128) for role in ROLES)) + ROOM
        rows.append(
            (
                f"nudge-onnx {precision}",
                f"{size_of(folder) / 1e6:.0f}",
                f"{weights / MIB:.0f}",
                f"{one['peak'] / MIB:.0f}",
                f"{allowed / MIB:.0f}",
                *(f"{one[key]:.2f}" for key in ("import_s", "load_s", "ready_s")),
            )
        )
        report.data[f"{precision} pair"] = one
    head = ("", "bundle, MB", "weights, MiB", "peak, MiB", "allowed, MiB", "import, s", "load, s", "ready, s")
    report.table(
        f"The pair with its tokenizers, through one answer (goal: import and load within {LOAD_GOAL} s)", head, rows
    )


def _medians(values: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    return {key: statistics.median(one[key] for one in values) for key in values[0]}


def _weights(folder: Path) -> int:
    return sum(size_of(file) for role in ROLES for file in (folder / role).iterdir() if file.name != "tokenizer.json")


def _cache_bytes(role: str, positions: int) -> int:
    """Keys and values of so many positions in fp32."""
    cache = Bundle.open(there(BUNDLES / "int8")).manifest.models[role].cache
    return 2 * 4 * cache.layers * cache.kv_heads * cache.head_size * positions
