"""Whole answers of a pair: nudged, beside each model alone, and beside nudging as one would first build it."""

from __future__ import annotations

import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.engines import Worker, cores
from benchmarks.models import VARIANTS
from benchmarks.places import CHECKPOINTS, bundle_of, there
from benchmarks.plots import bars, panels
from benchmarks.report import Report
from benchmarks.rounds import Samples, turned
from benchmarks.single import Goal, kept
from benchmarks.texts import PROMPTS
from nudge_onnx.bundle import Bundle
from nudge_onnx.runtime.text.prompt import as_messages
from nudge_onnx.runtime.text.templates import render

TOKENS = 64
CONTEXT = 512
NUDGED, BASE, NUDGE = "nudge-onnx: nudged", "nudge-onnx: base model alone", "nudge-onnx: nudging model alone"
OFF = "nudge-onnx: nudged, reading nothing ahead"
GENAI_BASE = "genai: base model alone"
NAIVE, REWINDING = "genai: nudged, naive", "genai: nudged, naive with rewinding"
TORCH = "transformers: nudged, naive with rewinding"
ABOUT = f"""
Answers of {TOKENS} tokens, a prompt a round, greedy, gamma and draft length of the bundle; int8 weights, but fp32 in
transformers. Tokens per second count from when the prompts are read; a token of a nudged answer is one by whichever
model wrote it; that of the nudging model over the base model, each alone, is the ratio of their costs. Every answer
begins with empty caches. The engines' base model alone does not stop at an end token.

*Naive* is the loop that one would first write on an engine: one position at a time, the text tokenised again at each
hand-over and read again from its beginning; *with rewinding* keeps what the cache shares with the new ids. *As
nudge-onnx* is the share of the text, from its beginning, that equals nudge-onnx's answer: other roundings of the same
weights may choose another word, and go on differently from there.
"""


@dataclass(frozen=True)
class Pair:
    """A pair of models as each engine wants it, by role."""

    name: str
    title: str
    about: str
    bundle: Path
    genai: Mapping[str, Path]
    checkpoints: Mapping[str, Path]
    goal: float
    """Times as fast as genai's base model alone that a nudged answer should be."""
    step_goal: float | None = None
    """Times as much as a step of the nudging model that one of the base model should cost."""
    alone_goal: float | None = None
    """Times as fast as our own base model alone that a nudged answer should be."""


def real_pair() -> Pair:
    """The demo pair."""
    return Pair(
        "nudged-real",
        "Nudging, the real pair",
        "Gemma-3-270m nudged by SmolLM2-135M-Instruct: two models of almost one size.",
        bundle_of("base", "int8"),
        {role: VARIANTS["genai int8"].model(role) for role in ("base", "nudge")},
        {role: there(CHECKPOINTS / role) for role in ("base", "nudge")},
        0.8,
    )


def large_pair() -> Pair:
    """A base model of the paper's relative size."""
    return Pair(
        "nudged-large",
        "Nudging, the large pair",
        "Qwen2.5-Coder-1.5B-Instruct nudged by SmolLM2-135M-Instruct, 13 to 1 in weights as the paper's pairs. "
        "Both are instruct models, but the base model reads a plain prompt; at a gamma of 0.3 an eighth is nudged.",
        bundle_of("large", "int8"),
        {role: VARIANTS["genai int8"].model(model) for role, model in (("base", "large"), ("nudge", "nudge"))},
        {"base": there(CHECKPOINTS / "large"), "nudge": there(CHECKPOINTS / "nudge")},
        1.5,
        7.0,
        1.3,
    )


PAIRS: Mapping[str, Callable[[], Pair]] = {"real": real_pair, "large": large_pair}
"""What makes each pair ready to be measured."""


@dataclass(frozen=True)
class Contestant:
    """Somebody who answers prompts: a worker, and what it is asked."""

    worker: Worker
    request: Callable[[str], Mapping[str, Any]]
    only_first: bool = False
    """Answers in the first round only, because it takes minutes."""

    def answer(self, prompt: str, tokens: int) -> dict[str, Any]:
        """The answer to a prompt, with its times."""
        result: dict[str, Any] = self.worker.ask("answer", tokens=tokens, **self.request(prompt))
        return result


@contextmanager
def contestants(pair: Pair, with_torch: bool) -> Iterator[dict[str, Contestant]]:
    """All who answer prompts, with their models open."""
    bundle = Bundle.open(pair.bundle)
    models, gamma = bundle.manifest.models, bundle.manifest.defaults.gamma

    def rendered(prompt: str) -> dict[str, str]:
        messages = as_messages(prompt, bundle.manifest.defaults.system_prompt or None)
        return {role: render(models[role].prompt, messages) for role in ("base", "nudge")}

    def naive(mode: str) -> Callable[[str], Mapping[str, Any]]:
        return lambda prompt: {"prompts": rendered(prompt), "mode": mode, "gamma": gamma}

    def described(paths: Mapping[str, Path]) -> dict[str, dict[str, Any]]:
        return {
            role: {
                "path": str(paths[role]),
                "tokenizer": str(bundle.path(models[role].tokenizer)),
                "add_bos": models[role].prompt.add_bos,
                "ends": models[role].end_token_ids,
            }
            for role in ("base", "nudge")
        }

    with ExitStack() as stack:

        def opened(module: str, engine: str, **load: Any) -> Worker:
            print(f"{pair.name}: opening {engine}", file=sys.stderr)
            worker = stack.enter_context(Worker(module, engine))
            worker.ask("load", **load)
            return worker

        def naively(engine: str, paths: Mapping[str, Path], rewinds: bool) -> Worker:
            return opened(
                "naive",
                engine,
                engine_name=engine,
                rewinds=rewinds,
                threads=cores(),
                context=CONTEXT,
                models=described(paths),
            )

        ours = opened("nudged", "ours", bundle=str(pair.bundle))
        again, rewinding = (naively("genai", pair.genai, rewinds) for rewinds in (False, True))
        everyone = {
            NUDGED: Contestant(ours, lambda prompt: {"prompt": prompt}),
            OFF: Contestant(ours, lambda prompt: {"prompt": prompt, "speculation": "off"}),
            BASE: Contestant(ours, lambda prompt: {"prompt": prompt, "mode": "base"}),
            NUDGE: Contestant(ours, lambda prompt: {"prompt": prompt, "mode": "nudge"}),
            GENAI_BASE: Contestant(rewinding, naive("base")),
            NAIVE: Contestant(again, naive("nudged")),
            REWINDING: Contestant(rewinding, naive("nudged")),
        }
        if with_torch:
            torch = naively("transformers", pair.checkpoints, True)
            everyone[TORCH] = Contestant(torch, naive("nudged"), only_first=True)
        yield everyone


def nudged(pair: Pair, rounds: int, tokens: int = TOKENS, with_torch: bool = True) -> None:
    """Measure answers of a pair and write the results."""
    report = Report(pair.name, pair.title, f"{pair.about}\n{ABOUT}")
    answers: dict[str, list[dict[str, Any]]] = defaultdict(list)
    with contestants(pair, with_torch) as everyone:
        for someone in everyone.values():
            someone.answer(PROMPTS[-1], 4)
        for number in range(rounds):
            prompt = PROMPTS[number % len(PROMPTS)]
            print(f"{pair.name}: round {number + 1} of {rounds}: {prompt}", file=sys.stderr)
            for title in turned(list(everyone), number):
                if number == 0 or not everyone[title].only_first:
                    answers[title].append(everyone[title].answer(prompt, tokens))
    seconds: Samples = {
        title: [one["decode_s"] / one["tokens"] for one in answers[title]] for title in everyone if title in answers
    }
    _write(report, pair, answers, seconds)


def _write(report: Report, pair: Pair, answers: Mapping[str, Sequence[Mapping[str, Any]]], seconds: Samples) -> None:
    ours = [one["text"] for one in answers[NUDGED]]
    speeds = {title: 1 / statistics.median(values) for title, values in seconds.items()}
    nudging = [title for title in answers if "nudged" in title]
    report.table(
        "Answers",
        ("", "tokens/s", "characters/s", "nudging ratio", "as nudge-onnx"),
        [
            (
                title,
                f"{speed:.1f}",
                f"{statistics.median(len(one['text']) / one['decode_s'] for one in answers[title]):.0f}",
                f"{statistics.mean(one['nudging_ratio'] for one in answers[title]):.2f}" if title in nudging else "",
                f"{100 * alike([one['text'] for one in answers[title]], ours):.0f} %" if title in nudging else "",
            )
            for title, speed in sorted(speeds.items(), key=lambda item: -item[1])
        ],
    )
    goals = (
        Goal(NUDGED, GENAI_BASE, pair.goal),
        Goal(NUDGED, BASE, pair.alone_goal),
        Goal(NUDGED, OFF),
        Goal(NUDGED, REWINDING),
        Goal(NUDGED, NAIVE),
        Goal(NUDGED, TORCH),
        Goal(NUDGE, BASE, pair.step_goal),
    )
    ratios = kept(seconds, goals)
    report.ratios("Times as fast, by tokens", ratios)
    report.data |= {"answers": answers, "tokens_per_second": speeds}
    with panels(pair.name, [pair.title], (7.4, 3.4)) as (axes, path):
        notes = {title: f"({speed / speeds[GENAI_BASE]:.2f}x)" for title, speed in speeds.items()}
        bars(axes[0], speeds, "tokens per second", notes, speeds[GENAI_BASE])
    report.picture(path, f"{pair.title}; in brackets, times as fast as genai's base model alone")
    report.save()


def alike(texts: Sequence[str], reference: Sequence[str]) -> float:
    """The mean share of each text, from its beginning, that equals its reference."""
    pairs = list(zip(texts, reference, strict=False))
    return statistics.mean(_begins_alike(*pair) / max(1, *map(len, pair)) for pair in pairs)


def _begins_alike(one: str, other: str) -> int:
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
