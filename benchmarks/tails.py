"""The two tails, and drafts that entropy stops: how fast an answer is, and how it differs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.answers import BUNDLE_OF_PAIR
from benchmarks.places import BUNDLES, there
from benchmarks.report import Report
from benchmarks.rounds import alternate, ratio
from benchmarks.texts import PROMPTS
from nudge_onnx import NudgedLM
from nudge_onnx.runtime.nudging.results import Answer

__all__ = ["TOKENS", "tails"]

TOKENS = 96
_ABOUT = """
{pair}, int8, one answer at a time, {count} prompts, answers of at most {tokens} tokens, greedy, prompts included; each
variant in turn within a round. `draft`: an end of the nudging model counts anywhere in a draft. `lazy`: only before the
base model takes over, so that drafts are written no further than is asked. Both are exact: with and without reading
ahead an answer is the same. `entropy`: drafts ahead of the base model end where the nudging model's entropy says so
(AdaEDL), instead of where measured costs do.
"""
_VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "draft": {},
    "lazy": {"tail": "lazy"},
    "draft, entropy": {"speculation": "entropy"},
    "lazy, entropy": {"tail": "lazy", "speculation": "entropy"},
    "draft, nothing ahead": {"speculation": "off"},
    "lazy, nothing ahead": {"tail": "lazy", "speculation": "off"},
}


def tails(pair: str, rounds: int, tokens: int = TOKENS, prompts: Sequence[str] = PROMPTS) -> None:
    """Measure a pair and write the results."""
    bundle, title = BUNDLE_OF_PAIR[pair]
    about = _ABOUT.format(pair=title, count=len(prompts), tokens=tokens)
    report = Report(f"tails-{pair}", f"Tails, the {pair} pair", about)
    written: dict[str, list[Answer]] = {}
    with NudgedLM.load(there(BUNDLES / bundle), threads=len(os.sched_getaffinity(0)), slots=1) as lm:

        def measure(variant: str) -> float:
            lm.pool.clear()
            written[variant] = [lm.generate(one, max_new_tokens=tokens, **_VARIANTS[variant]) for one in prompts]
            timings = [answer.timings for answer in written[variant]]
            made = sum(sum(answer.tokens.values()) for answer in written[variant])
            return sum(one.prefill + one.decode for one in timings) / made

        samples = alternate(list(_VARIANTS), rounds, report.name, measure)
    report.table(
        "Answers",
        (
            "",
            "tokens/s",
            "nudging tokens",
            "tokens an answer",
            "ended",
            "passes of the nudging model a token",
            "of the base model",
        ),
        [(variant, f"{1 / min(samples[variant]):.1f}", *_figures(answers)) for variant, answers in written.items()],
    )
    pairs = [
        ("lazy", "draft"),
        ("draft, entropy", "draft"),
        ("lazy, entropy", "lazy"),
        ("lazy, nothing ahead", "draft, nothing ahead"),
    ]
    report.ratios("Times as fast, by token", [ratio(samples, *one) for one in pairs])
    same = sum(one.text == other.text for one, other in zip(written["draft"], written["lazy"], strict=True))
    report.data["same_answers"] = same
    report.table("Both tails", ("", ""), [("answers that are the same", f"{same} of {len(prompts)}")])
    report.data["seconds_a_token"] = samples
    report.save()


def _figures(answers: Sequence[Answer]) -> tuple[str, ...]:
    counts = {role: sum(answer.tokens[role] for answer in answers) for role in ("base", "nudge")}
    total = sum(counts.values())
    return (
        f"{counts['nudge'] / total:.0%}",
        f"{total / len(answers):.0f}",
        f"{sum(answer.finish_reason == 'stop' for answer in answers)} of {len(answers)}",
        f"{sum(answer.timings.passes['nudge'] for answer in answers) / total:.2f}",
        f"{sum(answer.timings.passes['base'] for answer in answers) / total:.2f}",
    )
