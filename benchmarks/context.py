"""Growth with the context: what a step costs behind 64 to 4,096 tokens."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from functools import partial

from benchmarks.engines import Worker, open_all
from benchmarks.models import VARIANTS
from benchmarks.places import TITLES
from benchmarks.plots import curves, panels
from benchmarks.report import Report
from benchmarks.rounds import Samples, alternate
from benchmarks.single import ROLES, Goal, chosen, kept
from benchmarks.texts import ids_of

LENGTHS = (64, 256, 1024, 2048, 4096)
STEPS = 16
# Texts are read in parts: genai and Optimum compute logits for all that they read, which at 4,096 tokens are 4 GB.
CHUNK = 256
DEFAULT = ("nudge-onnx int8", "nudge-onnx int4-all", "genai int8", "genai int4", "llama.cpp", "optimum fp32")
GOALS = (
    Goal("nudge-onnx int8", "genai int8", 1.0),
    Goal("nudge-onnx int4-all", "genai int4", 1.0),
    Goal("nudge-onnx int8", "llama.cpp"),
    Goal("nudge-onnx fp32", "optimum fp32"),
)
ABOUT = f"""
Milliseconds of a greedy step behind so many tokens, the mean of {STEPS} steps that follow them. The last column is the
cost behind the longest text over that behind the shortest.
"""


def context(rounds: int, only: Sequence[str] = (), lengths: Sequence[int] = LENGTHS) -> None:
    """Measure steps behind ever longer texts and write the results."""
    report = Report("context", "Growth with the context", ABOUT)
    lines = {}
    for role in ROLES:
        titles = chosen(only, DEFAULT)
        by_length: dict[int, Samples] = {}
        with open_all([VARIANTS[title] for title in titles], role, max(lengths) + 2 * STEPS) as workers:
            for length in lengths:
                by_length[length] = alternate(
                    titles,
                    rounds,
                    f"steps behind {length} tokens, {role} model",
                    partial(_seconds_a_step, workers, ids_of(role, length)),
                    warm_up=length == min(lengths),
                )
        lines[role] = {
            title: [1e3 * statistics.median(by_length[length][title]) for length in lengths] for title in titles
        }
        report.table(
            f"{TITLES[role]}: ms a token",
            ("", *(f"{length} tokens" for length in lengths), "growth"),
            [
                (title, *(f"{value:.1f}" for value in values), f"{values[-1] / values[0]:.2f}")
                for title, values in lines[role].items()
            ],
        )
        grown = _growth(by_length[min(lengths)], by_length[max(lengths)])
        report.ratios(f"{TITLES[role]}: times as little growth", kept(grown, GOALS))
        report.ratios(f"{TITLES[role]}, {max(lengths)} tokens: times as fast", kept(by_length[max(lengths)], GOALS))
        report.data[role] = {"seconds": by_length, "ms": lines[role], "lengths": list(lengths)}
    with panels(report.name, [TITLES[role] for role in lines]) as (axes, path):
        for axis, values in zip(axes, lines.values(), strict=True):
            curves(axis, lengths, values, ("tokens in the cache", "ms a token"), log=True)
    report.picture(path, "Milliseconds of a step by the tokens in the cache")
    report.save()


def _growth(short: Samples, long: Samples) -> Samples:
    return {title: [b / a for a, b in zip(short[title], long[title], strict=True)] for title in short}


def _seconds_a_step(workers: Mapping[str, Worker], ids: list[int], title: str) -> float:
    seconds: float = workers[title].ask("decode", ids=ids, count=STEPS, chunk=CHUNK)["seconds"]
    return seconds / STEPS
