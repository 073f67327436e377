"""What the benchmarks of one model alone share: who takes part, and how a cost becomes a table and a plot."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple

import click

from benchmarks.engines import Worker, open_all
from benchmarks.models import VARIANTS
from benchmarks.places import TITLES, size_of
from benchmarks.plots import bars, panels
from benchmarks.report import Report
from benchmarks.rounds import Ratio, Samples, alternate, ratio

ROLES = ("base", "nudge")
"""The models of the demo pair."""


class Goal(NamedTuple):
    """A ratio to be reported, and what it should reach."""

    ours: str
    theirs: str
    at_least: float | None = None


def chosen(only: Sequence[str], default: Sequence[str]) -> list[str]:
    """Titles of variants: those that a user names, whole or by a part, else the default."""

    def is_named(title: str) -> bool:
        return any(title == part if part in VARIANTS else part in title for part in only)

    titles = [title for title in VARIANTS if is_named(title)] if only else list(default)
    if not titles:
        raise click.ClickException(f"no variant is named {' or '.join(only)}; there are: {', '.join(VARIANTS)}")
    return titles


def named(benchmark: str, models: Sequence[str]) -> str:
    """The name of the results of some models."""
    return benchmark if set(models) <= set(ROLES) else f"{benchmark}-{'-'.join(models)}"


def costs(
    role: str, titles: Sequence[str], rounds: int, context: int, what: str, cost: Callable[[Worker], float]
) -> Samples:
    """Seconds of each variant in each round, for the model of one role."""
    with open_all([VARIANTS[title] for title in titles], role, context) as workers:
        return alternate(titles, rounds, f"{what}, {role} model", lambda title: cost(workers[title]))


def kept(samples: Samples, goals: Sequence[Goal]) -> list[Ratio]:
    """The ratios of those pairs that both took part."""
    return [ratio(samples, *goal) for goal in goals if goal.ours in samples and goal.theirs in samples]


def speeds(report: Report, role: str, samples: Samples, tokens: int, goals: Sequence[Goal]) -> dict[str, float]:
    """Add tables of tokens a second, from seconds for so many tokens; returns the medians."""
    medians = {title: tokens / statistics.median(values) for title, values in samples.items()}
    report.table(
        TITLES[role],
        ("", "weights", "MB", "ms a token", "tokens/s"),
        [
            (
                title,
                VARIANTS[title].weights,
                f"{size_of(*VARIANTS[title].files(role)) / 1e6:.0f}",
                f"{1e3 / medians[title]:.2f}",
                f"{medians[title]:.1f}",
            )
            for title in sorted(medians, key=lambda title: -medians[title])
        ],
    )
    report.ratios(f"{TITLES[role]}: times as fast", kept(samples, goals))
    report.data[role] = {"seconds": samples, "tokens": tokens, "tokens_per_second": medians}
    return medians


def plot_speeds(report: Report, medians: dict[str, dict[str, float]], label: str) -> None:
    """Bars for each role, with how many times as fast nudge-onnx int8 is."""
    with panels(report.name, [TITLES[role] for role in medians], (5.6, 4.2)) as (axes, path):
        for axis, values in zip(axes, medians.values(), strict=True):
            ours = values.get("nudge-onnx int8")
            notes = {title: f"({ours / value:.2f}x)" for title, value in values.items()} if ours else None
            bars(axis, values, label, notes)
    report.picture(path, f"{report.title}; in brackets, how many times as fast nudge-onnx int8 is")
