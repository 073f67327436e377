"""What a step of nudged decoding is made of: the share of ONNX Runtime, and of everything around it."""

from __future__ import annotations

import sys
from collections import Counter

from benchmarks.engines import Worker
from benchmarks.places import BUNDLES, there
from benchmarks.plots import panels, stacked
from benchmarks.report import Report
from benchmarks.texts import PROMPTS

TOKENS = 64
PARTS = ("session", "binding", "gate and argmax", "tokenizer", "loop")
GOAL = 3.0
PRECISIONS = ("int8", "int4")
MODES = {
    "nudged": {},
    "nudged, reading nothing ahead": {"speculation": "off"},
    "base model alone": {"mode": "base"},
}
ABOUT = f"""
Answers of {TOKENS} tokens to {len(PROMPTS)} prompts, behind their first piece. *session* is ONNX Runtime's run;
*binding* what the decoder does around it (arrays, inputs, outputs, rewinds); *gate and argmax* the choice of a token
from its logits, or from what the graph's uncertainty head says of them; *tokenizer* text to ids and back; *loop* all
the rest. Each part is counted without the others that it calls. Everything but the session is to stay below
{GOAL:.0f} %; that column is of the same answers with a stopwatch around the session alone, since one around each
part takes as long as some of them.
"""


def step(rounds: int) -> None:
    """Split the time of answers and write the results."""
    report = Report("step", "What a step is made of", ABOUT)
    rows, shares = [], {}
    for precision in PRECISIONS:
        with Worker("watched", "ours") as split, Worker("watched", "ours") as bare:
            for worker, parts in ((split, True), (bare, False)):
                worker.ask("load", bundle=str(there(BUNDLES / precision)), parts=parts)
                worker.ask("answer", prompt=PROMPTS[0], tokens=24)
            for mode, options in MODES.items():
                seconds, passes = _sum(split, rounds, options)
                whole = sum(seconds.values())
                undisturbed, _ = _sum(bare, rounds, options)
                around = 100 * undisturbed["loop"] / sum(undisturbed.values())
                title = f"{precision}, {mode}"
                shares[title] = {part: 100 * seconds[part] / whole for part in PARTS}
                report.data[title] = {"seconds": seconds, "passes": passes, "undisturbed": undisturbed}
                rows.append(
                    (
                        title,
                        f"{1e3 * whole / passes:.2f}",
                        *(f"{shares[title][part]:.2f} %" for part in PARTS),
                        f"{around:.2f} %",
                    )
                )
                print(f"step: {title}: done", file=sys.stderr)
    report.table("Shares", ("", "ms a pass", *PARTS, f"all but session (goal < {GOAL:.0f} %)"), rows)
    with panels(report.name, [f"{report.title}, apart from the session"], (7.4, 3.0)) as (axes, path):
        rest = {title: {part: parts[part] for part in PARTS[1:]} for title, parts in shares.items()}
        stacked(axes[0], rest, "% of a step", mark=GOAL)
    report.picture(path, "Shares of a step that are not ONNX Runtime's")
    report.save()


def _sum(worker: Worker, rounds: int, options: dict[str, str]) -> tuple[Counter[str], int]:
    seconds: Counter[str] = Counter()
    passes = 0
    for _ in range(rounds):
        for prompt in PROMPTS:
            result = worker.ask("answer", prompt=prompt, tokens=TOKENS, **options)
            seconds.update(result["seconds"])
            passes += result["passes"]
    return seconds, passes
