"""Whether answers are right: GSM8K's questions, in the paper's settings, by each way of writing them."""

from __future__ import annotations

import json
import math
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.places import BUNDLES, MADE, there
from benchmarks.plots import panels
from benchmarks.report import Report
from nudge_onnx import NudgedLM
from nudge_onnx.calibration.agreement import agrees
from nudge_onnx.choices import GateName, Mode, Tail

__all__ = ["BUNDLE_OF_PAIR", "MOST_TOKENS", "QUESTIONS", "answers"]

QUESTIONS = 40
MOST_TOKENS = 512
_SEED = 18
_SYSTEM = "Answer the question by walking through the reasoning steps."
_PREFIX = "Question: "
_GAMMAS: dict[GateName, tuple[float, ...]] = {
    "top1": (0.3, 0.4, 0.5),
    "bet": (0.35, 0.45, 0.55),
    "entropy": (0.75, 0.85, 0.95),
}
BUNDLE_OF_PAIR = {
    "real": ("int8", "Gemma-3-270m nudged by SmolLM2-135M-Instruct"),
    "large": ("large-int8", "Qwen2.5-Coder-1.5B-Instruct nudged by SmolLM2-135M-Instruct"),
}
"""The bundle of each pair below the folder of bundles, and its models."""
_ABOUT = """
{pair}, int8. {count} questions of GSM8K's test set, drawn with a fixed seed, in the paper's settings: zero-shot, the
system prompt "{system}", the prefix "{prefix}", greedy, at most {most} tokens, right if the last number is. Intervals
are Wilson's at 95 %.

What this can show: whether a setting breaks answers, and what a gate or a tail does to the share of nudging tokens.
What it cannot: the gain of the paper. There a base model of 7 to 70 billion weights knows arithmetic that it does not
offer. {limits} With so few questions only differences of {least} points or more are more than chance.
"""
_LIMITS = {
    "real": "Here neither model does arithmetic, so every way is near zero.",
    "large": "Here the nudging model does next to none, and the base model was itself tuned on instructions.",
}


@dataclass(frozen=True)
class Way:
    """One way to write answers."""

    mode: Mode
    gate: GateName = "top1"
    gamma: float = 0.4
    tail: Tail = "draft"

    @property
    def title(self) -> str:
        """As tables name it."""
        if self.mode != "nudged":
            return f"{'base' if self.mode == 'base' else 'nudging'} model alone"
        return f"{self.gate} {self.gamma:g}, {self.tail}"


WAYS = (
    Way("base"),
    Way("nudge"),
    *(Way("nudged", gate, gamma) for gate, gammas in _GAMMAS.items() for gamma in gammas),
    *(Way("nudged", gate, gamma, "lazy") for gate, gammas in _GAMMAS.items() for gamma in gammas),
)
"""Each model alone, and nudged by gate, tail and gamma."""


def answers(pair: str, data: Path, count: int = QUESTIONS, most: int = MOST_TOKENS) -> None:
    """Answer the questions of `data` (GSM8K's test set as JSON lines) in each way, and write the results.

    Answers are kept in the folder of what benchmarks make, so that a run that was stopped goes on.
    """
    bundle, title = BUNDLE_OF_PAIR[pair]
    questions = _sample(data, count)
    report = Report(
        f"quality-of-answers-{pair}", f"Quality of answers, the {pair} pair", _about(pair, title, count, most)
    )
    found: dict[Way, list[dict[str, Any]]] = {}
    MADE.mkdir(parents=True, exist_ok=True)
    kept = MADE / f"answers-{pair}-{count}-{most}.jsonl"
    with NudgedLM.load(there(BUNDLES / bundle)) as lm:
        try:
            for way in WAYS:
                found[way] = _known(kept, way) or _written(lm, way, questions, most, kept)
                right = sum(one["right"] for one in found[way])
                print(f"{way.title}: {right} of {len(found[way])} right", file=sys.stderr, flush=True)
        except KeyboardInterrupt:
            print("stopped: what is there is reported, and another run goes on", file=sys.stderr)
    report.table(
        "Answers",
        ("", "right", "interval", "nudging tokens", "tokens", "ended"),
        [tuple(_row(way, ones)) for way, ones in found.items()],
    )
    with panels(report.name, ["right, by the share of nudging tokens"], (6.4, 4.4)) as ((axis,), picture):
        _plot(axis, found)
    report.picture(picture, "Share of right answers by the share of nudging tokens, with intervals")
    report.data["ways"] = [asdict(way) | {"answers": ones} for way, ones in found.items()]
    report.save()


def _about(pair: str, title: str, count: int, most: int) -> str:
    # Half the width of an interval around a half, for two shares.
    least = math.ceil(100 * 1.96 * math.sqrt(2 * 0.25 / count))
    return _ABOUT.format(
        pair=title, count=count, most=most, system=_SYSTEM, prefix=_PREFIX, limits=_LIMITS[pair], least=least
    )


def _sample(data: Path, count: int) -> list[dict[str, str]]:
    lines = [json.loads(line) for line in there(data).read_text(encoding="utf-8").splitlines()]
    return random.Random(_SEED).sample(lines, count)


def _known(kept: Path, way: Way) -> list[dict[str, Any]]:
    lines = kept.read_text(encoding="utf-8").splitlines() if kept.exists() else []
    records = [json.loads(line) for line in lines]
    return next((record["answers"] for record in records if record["way"] == asdict(way)), [])


def _written(
    lm: NudgedLM, way: Way, questions: Sequence[Mapping[str, str]], most: int, kept: Path
) -> list[dict[str, Any]]:
    prompts = [_PREFIX + one["question"] for one in questions]
    written = lm.generate_batch(prompts, system_prompt=_SYSTEM, max_new_tokens=most, **asdict(way))
    ones = [
        {
            "right": agrees(answer.text, question["answer"]),
            "tokens": sum(answer.tokens.values()),
            "nudging_tokens": answer.tokens["nudge"],
            "finish_reason": answer.finish_reason,
            "text": answer.text,
        }
        for answer, question in zip(written, questions, strict=True)
    ]
    with kept.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps({"way": asdict(way), "answers": ones}, ensure_ascii=False) + "\n")
    return ones


def wilson(right: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's interval of a share, by default at 95 %."""
    share, square = right / count, z * z
    middle = (share + square / (2 * count)) / (1 + square / count)
    half = z / (1 + square / count) * math.sqrt(share * (1 - share) / count + square / (4 * count * count))
    return middle - half, middle + half


def _row(way: Way, ones: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    right = sum(one["right"] for one in ones)
    low, high = wilson(right, len(ones))
    yield way.title
    yield f"{right / len(ones):.1%}"
    yield f"{low:.0%} to {high:.0%}"
    yield f"{_ratio(ones):.1%}"
    yield f"{sum(one['tokens'] for one in ones) / len(ones):.0f}"
    yield f"{sum(one['finish_reason'] == 'stop' for one in ones) / len(ones):.0%}"


def _ratio(ones: Sequence[Mapping[str, Any]]) -> float:
    nudging, tokens = (sum(int(one[name]) for one in ones) for name in ("nudging_tokens", "tokens"))
    return nudging / max(1, tokens)


def _plot(axis: Any, found: Mapping[Way, Sequence[Mapping[str, Any]]]) -> None:
    colours = dict(zip(_GAMMAS, ("#c8402f", "#2f6db5", "#3f8f5b"), strict=True))
    for way, ones in found.items():
        right = sum(one["right"] for one in ones) / len(ones)
        low, high = wilson(sum(one["right"] for one in ones), len(ones))
        nudged = way.mode == "nudged"
        label = f"{way.gate}, {way.tail}" if nudged else way.title
        known = axis.get_legend_handles_labels()[1]
        axis.errorbar(
            [100 * _ratio(ones)],
            [100 * right],
            yerr=[[100 * (right - low)], [100 * (high - right)]],
            marker=("o" if way.tail == "draft" else "s") if nudged else "D",
            color=colours[way.gate] if nudged else "#666666",
            markerfacecolor="white" if nudged and way.tail == "lazy" else None,
            capsize=2,
            linewidth=0.8,
            label=None if label in known else label,
        )
    axis.set_xlabel("nudging tokens, %")
    axis.set_ylabel("right, %")
    axis.legend(fontsize=7)
