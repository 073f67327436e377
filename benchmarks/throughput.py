"""Many answers at once: how many tokens a second all of them make, and how long one waits for each of its own."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.engines import Worker, cores
from benchmarks.models import VARIANTS
from benchmarks.nudged import PAIRS
from benchmarks.places import GGUF
from benchmarks.plots import curves, panels
from benchmarks.report import Report
from benchmarks.texts import PROMPTS, mixed_prompts
from nudge_onnx.bundle import Bundle
from nudge_onnx.runtime.text.prompt import as_messages
from nudge_onnx.runtime.text.templates import render
from nudge_onnx.runtime.text.tokenizer import Tokenizer

AT_ONCE = (1, 2, 4, 8, 16)
PROMPT_COUNT, TOKENS = 64, 128
GOAL = 2.5
NUDGED, BASE = "nudge-onnx: nudged", "nudge-onnx: base model alone"
LLAMA, GENAI = "llama.cpp: base model alone, slots", "genai: base model alone, one by one"
ARRIVALS = 9
ONE_BY_ONE = 12
ABOUT = """
{prompts} prompts of 5 to 300 tokens, answers of at most {tokens}, greedy, from empty caches; so many are written
at a time, and the next begins when one has ended. Tokens per second are those of all answers over the time from the
first prompt to the last token, reading prompts included. The time of a token is that from the one before it in the same
answer; what a draft wrote at once shares its time. llama.cpp runs its own batches over sequences, as its server's slots
do, on the GGUF that the bundle was made of, without a server around it. genai serves one prompt after the other.
"""


def throughput(
    pair_name: str, prompts: int = PROMPT_COUNT, tokens: int = TOKENS, at_once: Sequence[int] = AT_ONCE
) -> None:
    """Measure a pair and write the results."""
    pair = PAIRS[pair_name]()
    title = f"Answers at once, {pair.title.split(', ')[-1]}"
    about = f"{pair.about}\n{ABOUT.format(prompts=prompts, tokens=tokens)}"
    report = Report(f"throughput-{pair_name}", title, about)
    texts = mixed_prompts(prompts)
    found: dict[str, dict[int, dict[str, Any]]] = {}

    def measure(worker: Worker, title: str, counts: Sequence[int], **request: Any) -> None:
        for count in counts:
            print(f"{report.name}: {title}, {count} at once", file=sys.stderr)
            found.setdefault(title, {})[count] = worker.ask("many", tokens=tokens, at_once=count, **request)

    with Worker("nudged", "ours") as ours:
        ours.ask("load", bundle=str(pair.bundle), slots=max(at_once))
        ours.ask("answer", prompt=PROMPTS[-1], tokens=8)
        measure(ours, NUDGED, at_once, prompts=texts)
        measure(ours, BASE, at_once, prompts=texts, mode="base")
        first = ours.ask("first_tokens", prompt=PROMPTS[0], long=long_prompt(pair.bundle), arrivals=ARRIVALS)
    _same_answers(found[NUDGED])
    _same_answers(found[BASE])
    ids, ends = prompt_ids(pair.bundle, texts)
    model = "large" if pair_name == "large" else "base"
    with Worker("llamacpp_slots", "llamacpp") as llama:
        llama.ask("load", model=str(GGUF[model]), threads=cores(), slots=max(at_once))
        measure(llama, LLAMA, at_once, prompts=ids, ends=ends)
    print(f"{report.name}: {GENAI}", file=sys.stderr)
    with Worker("genai", "genai") as genai:
        genai.ask("load", model=str(VARIANTS["genai int8"].model(model)), role="base", threads=cores(), context=1024)
        some = ids[:ONE_BY_ONE]
        seconds = sum(
            genai.ask("prefill", ids=prompt)["seconds"] + genai.ask("decode", ids=prompt, count=tokens - 1)["seconds"]
            for prompt in some
        )
        found[GENAI] = {1: {"seconds": seconds, "tokens": tokens * len(some), "gaps": []}}
    _write(report, found, first, at_once)


def long_prompt(bundle: Path) -> str:
    """A prompt of 4,000 tokens and some."""
    opened = Bundle.open(bundle)
    tokenizer = Tokenizer(opened.path(opened.manifest.models["base"].tokenizer))
    text = mixed_prompts(1, words=600)[0]
    return text * -(-4096 // len(tokenizer.encode(text)))


def prompt_ids(bundle: Path, texts: Sequence[str]) -> tuple[list[list[int]], list[int]]:
    """What the base model reads for each text, and the ids that end its answer."""
    opened = Bundle.open(bundle)
    record = opened.manifest.models["base"]
    tokenizer = Tokenizer(opened.path(record.tokenizer))
    system = opened.manifest.defaults.system_prompt or None
    prompts = [render(record.prompt, as_messages(text, system)) for text in texts]
    return [tokenizer.encode_prompt(prompt, record.prompt.add_bos)[0] for prompt in prompts], list(record.end_token_ids)


def _same_answers(runs: Mapping[int, Mapping[str, Any]]) -> None:
    """Who else was answered may change no answer."""
    texts = {tuple(run["texts"]) for run in runs.values()}
    assert len(texts) == 1, "answers differ by how many were written at once"


def _write(
    report: Report,
    found: Mapping[str, Mapping[int, Mapping[str, Any]]],
    first: Mapping[str, Any],
    at_once: Sequence[int],
) -> None:
    speeds = {
        title: {count: run["tokens"] / run["seconds"] for count, run in runs.items()} for title, runs in found.items()
    }
    report.table(
        "Tokens per second of all answers",
        ("", *(f"{count} at once" for count in at_once)),
        [(title, *(f"{of[count]:.1f}" if count in of else "" for count in at_once)) for title, of in speeds.items()],
    )
    report.table(
        "Milliseconds of a token: median (95 of 100 take no more)",
        ("", *(f"{count} at once" for count in at_once)),
        [
            (title, *(_gaps(runs[count]["gaps"]) for count in at_once))
            for title, runs in found.items()
            if title != GENAI
        ],
    )
    rows: list[tuple[str, str, object]] = []
    most = max(count for count in at_once if count <= 8)
    for title in (NUDGED, BASE):
        rows.append((f"{title}: {most} at once over one by one", _over(speeds[title][most], speeds[title][1]), GOAL))
    rows.append(
        (f"base model alone, {most} at once: over llama.cpp", _over(speeds[BASE][most], speeds[LLAMA][most]), 1.0)
    )
    rows.append(
        (f"{NUDGED}, {most} at once: over genai's base model", _over(speeds[NUDGED][most], speeds[GENAI][1]), "")
    )
    report.table("Times as fast", ("", "", "goal"), rows)
    step = first["step_s"]
    report.table(
        "The first piece of a short answer, while a prompt of 4,096 tokens is read",
        ("", "ms", "steps of the base model"),
        [
            ("alone", f"{1e3 * first['alone_s']:.0f}", f"{first['alone_s'] / step:.1f}"),
            ("more, median", f"{1e3 * first['more_s']:.0f}", f"{first['more_s'] / step:.1f}"),
            ("more, at most", f"{1e3 * first['most_s']:.0f}", f"{first['most_s'] / step:.1f}"),
        ],
    )
    runs = {
        title: {count: {**run, "gaps": _quantiles(run["gaps"])} for count, run in of.items()}
        for title, of in found.items()
    }
    report.data |= {"runs": runs, "tokens_per_second": speeds, "first": first}
    with panels(report.name, [report.title], (6.4, 4.0)) as (axes, path):
        lines = {title: [of[count] for count in at_once] for title, of in speeds.items() if title != GENAI}
        curves(axes[0], at_once, lines, ("answers at once", "tokens per second"))
        axes[0].axhline(speeds[GENAI][1], linestyle=":", color="grey")
        axes[0].set_xticks(at_once)
    report.picture(path, "Tokens per second by answers at once; dotted: genai, one by one")
    report.save()


def _quantiles(gaps: Sequence[float]) -> list[float]:
    """Every twentieth of the seconds between tokens, in order."""
    return [round(cut, 5) for cut in statistics.quantiles(gaps, n=20)] if len(gaps) > 1 else []


def _gaps(gaps: Sequence[float]) -> str:
    cuts = statistics.quantiles(gaps, n=20)
    return f"{1e3 * statistics.median(gaps):.0f} ({1e3 * cuts[-1]:.0f})"


def _over(one: float, other: float) -> str:
    return f"{one / other:.2f}"
