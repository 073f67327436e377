"""Plots: one look for all of them, one colour an engine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .places import RESULTS

_COLOURS = {
    "nudge-onnx": "#c8402f",
    "genai": "#2f6db5",
    "llama.cpp": "#3f8f5b",
    "transformers": "#8a6bb1",
    "optimum": "#c69026",
}
_GREY = "#666666"
_MARKERS = ("o", "s", "^", "D", "v", "P")


def colour(title: str) -> str:
    """The colour of the engine that a title begins with."""
    return next((value for name, value in _COLOURS.items() if title.startswith(name)), _GREY)


@contextmanager
def panels(name: str, titles: Sequence[str], size: tuple[float, float] = (5.2, 4.0)) -> Iterator[tuple[Any, Path]]:
    """Axes side by side, one a title, and the path where they are saved in the end."""
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    mpl.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 10})
    figure, axes = plt.subplots(1, len(titles), figsize=(size[0] * len(titles), size[1]), squeeze=False)
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, loc="left", fontweight="bold")
    path = RESULTS / f"{name}.png"
    try:
        yield axes[0], path
        RESULTS.mkdir(parents=True, exist_ok=True)
        figure.tight_layout()
        figure.savefig(path, dpi=150)
    finally:
        plt.close(figure)


def bars(axis: Any, values: Mapping[str, float], label: str, notes: Mapping[str, str] | None = None) -> None:
    """Horizontal bars, the largest on top, each with its value and a note behind it."""
    order = sorted(values, key=lambda title: values[title])
    axis.barh(order, [values[title] for title in order], color=[colour(title) for title in order], height=0.7)
    for place, title in enumerate(order):
        note = (notes or {}).get(title, "")
        axis.text(values[title], place, f" {values[title]:.3g}{'  ' if note else ''}{note}", va="center", fontsize=8)
    axis.set_xlabel(label)
    axis.set_xlim(0, max(values.values()) * (1.45 if notes else 1.2))
    axis.tick_params(axis="y", length=0)


def curves(
    axis: Any, at: Sequence[float], lines: Mapping[str, Sequence[float]], labels: tuple[str, str], *, log: bool = False
) -> None:
    """One line a title over the places `at`; the lines of one engine differ in marker and dash."""
    seen: dict[str, int] = {}
    for title, values in lines.items():
        number = seen[colour(title)] = seen.get(colour(title), -1) + 1
        style = ("-", "--", ":", "-.")[number % 4]
        axis.plot(
            at[: len(values)],
            values,
            style,
            color=colour(title),
            marker=_MARKERS[number % 6],
            ms=4,
            lw=1.5,
            label=title,
        )
    axis.set_xlabel(labels[0])
    axis.set_ylabel(labels[1])
    axis.set_ylim(bottom=0)
    if log:
        axis.set_xscale("log", base=2)
        axis.set_xticks(list(at), [f"{place:g}" for place in at])
        axis.minorticks_off()
    axis.grid(axis="y", color="#e4e4e4", lw=0.6)
    axis.legend(frameon=False, fontsize=8)
