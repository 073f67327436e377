"""Prompts: tokens a second until the token after a prompt is known."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from functools import partial

from benchmarks.engines import Worker, open_all
from benchmarks.models import VARIANTS
from benchmarks.places import TITLES
from benchmarks.report import Report
from benchmarks.rounds import alternate
from benchmarks.single import ROLES, Goal, chosen, kept, named, plot_speeds
from benchmarks.texts import ids_of

LENGTHS = (64, 256, 512, 1024)
DEFAULT = [title for title in VARIANTS if title not in ("genai int4, int8 head",)]
GOALS = (
    Goal("nudge-onnx int8", "genai int8", 1.2),
    Goal("nudge-onnx int8", "genai int8, blocks of 64"),
    Goal("nudge-onnx int4-all", "genai int4", 1.2),
    Goal("nudge-onnx int8", "genai int8, pruned head"),
    Goal("nudge-onnx int8", "llama.cpp"),
    Goal("nudge-onnx fp32", "transformers fp32"),
    Goal("nudge-onnx fp32", "optimum fp32"),
)
ABOUT = """
From a prompt's ids to the token after them, on an empty cache; tables say tokens of the prompt per second. genai's
builder computes logits for every token of a prompt unless it is told not to; "pruned head" is what it makes when told.
The plot shows the longest prompt.
"""


def prefill(
    rounds: int, only: Sequence[str] = (), lengths: Sequence[int] = LENGTHS, models: Sequence[str] = ROLES
) -> None:
    """Measure prompts and write the results."""
    report = Report(named("prefill", models), "Prefill, reading a prompt", ABOUT)
    longest = {}
    for role in models:
        titles = chosen(only, DEFAULT)
        with open_all([VARIANTS[title] for title in titles], role, max(lengths) + 64) as workers:
            by_length = {
                length: alternate(
                    titles,
                    rounds,
                    f"prefill of {length} tokens, {role} model",
                    partial(_seconds, workers, ids_of(role, length)),
                )
                for length in lengths
            }
        speed = {
            title: {n: n / statistics.median(samples[title]) for n, samples in by_length.items()} for title in titles
        }
        longest[role] = {title: values[max(lengths)] for title, values in speed.items()}
        report.table(
            f"{TITLES[role]}: tokens of the prompt per second",
            ("", *(f"{length} tokens" for length in lengths)),
            [
                (title, *(f"{value:.0f}" for value in values.values()))
                for title, values in sorted(speed.items(), key=lambda item: -longest[role][item[0]])
            ],
        )
        for length, samples in by_length.items():
            report.ratios(f"{TITLES[role]}, {length} tokens: times as fast", kept(samples, GOALS))
        report.data[role] = {"seconds": by_length, "tokens_per_second": speed}
    plot_speeds(report, longest, f"tokens per second, prompt of {max(lengths)}")
    report.save()


def _seconds(workers: Mapping[str, Worker], ids: list[int], title: str) -> float:
    seconds: float = workers[title].ask("prefill", ids=ids)["seconds"]
    return seconds
