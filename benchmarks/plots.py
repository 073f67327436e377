"""Plots: one look for all of them, one colour an engine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.places import RESULTS

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


def bars(
    axis: Any,
    values: Mapping[str, float],
    label: str,
    notes: Mapping[str, str] | None = None,
    mark: float | None = None,
    *,
    smallest_first: bool = False,
) -> None:
    """Horizontal bars, the best on top, each with its value and a note behind it; `mark` draws a line."""
    order = sorted(values, key=lambda title: values[title], reverse=smallest_first)
    axis.barh(order, [values[title] for title in order], color=[colour(title) for title in order], height=0.7)
    for place, title in enumerate(order):
        note = (notes or {}).get(title, "")
        value = f"{values[title]:.0f}" if values[title] >= 100 else f"{values[title]:.3g}"
        shown = axis.annotate(
            f"{value}{'  ' if note else ''}{note}",
            (values[title], place),
            (4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
        shown.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.5})
    if mark is not None:
        axis.axvline(mark, color=_GREY, lw=0.8, ls=":", zorder=0)
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


def stacked(axis: Any, parts: Mapping[str, Mapping[str, float]], label: str, mark: float | None = None) -> None:
    """Horizontal bars, each a sum of named parts; `mark` draws a line at a goal."""
    order = list(parts)[::-1]
    left = dict.fromkeys(order, 0.0)
    tones = ("#2f6db5", "#c69026", "#3f8f5b", "#8a6bb1", "#c8402f")
    for name, tone in zip(next(iter(parts.values())), tones, strict=False):
        values = [parts[title][name] for title in order]
        axis.barh(order, values, left=[left[title] for title in order], color=tone, height=0.65, label=name)
        left = {title: left[title] + value for title, value in zip(order, values, strict=True)}
    for place, title in enumerate(order):
        axis.text(left[title], place, f" {left[title]:.1f}", va="center", fontsize=8)
    if mark is not None:
        axis.axvline(mark, color=_GREY, lw=0.8, ls=":")
        axis.text(mark, len(order) - 0.45, " goal", color=_GREY, fontsize=8, va="bottom")
    axis.set_xlabel(label)
    axis.tick_params(axis="y", length=0)
    axis.set_xlim(0, max(mark or 0, *left.values()) * 1.12)
    axis.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))


def cloud(axis: Any, across: Mapping[str, float], up: Mapping[str, float], label: str) -> None:
    """A labelled point for each title that is in both; divergence from the reference upwards, on a log scale.

    What diverges by less than `_EXACT` is drawn there.
    """
    titles = [title for title in up if title in across]
    axis.set_yscale("log")
    axis.set_xlim(0, 1.25 * max(across[title] for title in titles))
    axis.set_ylim(_EXACT / 2, 2 * max(up[title] for title in titles))
    axis.set_xlabel(label)
    axis.set_ylabel("KL from PyTorch fp32, nats a token (smaller is better)")
    axis.grid(color="#ececec", lw=0.6)
    axis.figure.canvas.draw()
    axis.set_yticks(axis.get_yticks(), [f"{tick:g}" if tick > _EXACT else f"< {tick:g}" for tick in axis.get_yticks()])
    axis.set_ylim(_EXACT / 2, 2 * max(up[title] for title in titles))
    points = {title: (across[title], max(up[title], _EXACT)) for title in titles}
    for title, point in points.items():
        axis.plot(*point, "o", color=colour(title), ms=6)
    _label(axis, points)


_EXACT = 1e-4
_PLACES = ((6, -3, "left"), (-6, -3, "right"), (0, 7, "center"), (0, -13, "center"), (6, 8, "left"), (6, -14, "left"))


def _label(axis: Any, points: Mapping[str, tuple[float, float]]) -> None:
    """Write each title beside its point, where it covers nothing that is there already."""
    marks = [axis.transData.transform(point) for point in points.values()]
    taken: list[Any] = []
    for title, point in points.items():
        for across, up, side in _PLACES:
            text = axis.annotate(title, point, (across, up), textcoords="offset points", ha=side, fontsize=7.5)
            box = text.get_window_extent()
            free = not any(box.overlaps(other) for other in taken) and not any(box.contains(*mark) for mark in marks)
            if free and axis.bbox.contains(box.x0, box.y0) and axis.bbox.contains(box.x1, box.y1):
                break
            if (across, up, side) != _PLACES[-1]:
                text.remove()
        taken.append(box)
