"""What it costs to check k tokens at once: the price of reading ahead."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence

from benchmarks.engines import open_all
from benchmarks.models import VARIANTS
from benchmarks.places import TITLES
from benchmarks.plots import curves, panels
from benchmarks.report import Report
from benchmarks.rounds import turned
from benchmarks.single import ROLES, chosen
from benchmarks.texts import ids_of

COUNTS = (1, 2, 3, 4, 6, 8, 12, 16)
FILLED, REPEATS = 200, 5
DEFAULT = ("nudge-onnx fp32", "nudge-onnx int8", "nudge-onnx int4", "genai int8", "genai int4", "llama.cpp")
ABOUT = f"""
Milliseconds of one pass over k tokens, with logits after each, on a cache of {FILLED} tokens, and what that is beside
the pass over one token. Behind each pass the cache is rewound. nudge-onnx may read a single token as two (see
docs/graphs.md, *One row and several*).
"""


def rows(rounds: int, only: Sequence[str] = (), repeats: int = REPEATS) -> None:
    """Measure passes of 1 to 16 rows and write the results."""
    report = Report("rows", "Checking k tokens at once", ABOUT)
    lines: dict[str, dict[str, list[float]]] = {}
    for role in ROLES:
        titles, ids = chosen(only, DEFAULT), ids_of(role, FILLED + max(COUNTS))
        seconds: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        with open_all([VARIANTS[title] for title in titles], role, 512) as workers:
            for number in range(rounds + 1):
                for title in turned(titles, number):
                    passes = workers[title].ask("rows", ids=ids, filled=FILLED, counts=COUNTS, repeats=repeats)
                    for count, values in passes.items() if number else ():
                        seconds[title][count] += values
        lines[role] = {
            title: [1e3 * statistics.median(seconds[title][str(count)]) for count in COUNTS] for title in titles
        }
        report.table(
            f"{TITLES[role]}: ms a pass (beside k = 1)",
            ("", *(f"k = {count}" for count in COUNTS)),
            [
                (title, *(f"{value:.1f} ({value / values[0]:.2f})" for value in values))
                for title, values in lines[role].items()
            ],
        )
        report.data[role] = {"seconds": seconds, "ms": lines[role], "counts": COUNTS}
    with panels(report.name, [TITLES[role] for role in lines]) as (axes, path):
        for axis, values in zip(axes, lines.values(), strict=True):
            curves(axis, COUNTS, values, ("tokens in a pass", "ms a pass"))
            axis.set_xticks(COUNTS)
    report.picture(path, "Milliseconds of a pass by the tokens in it")
    report.save()
