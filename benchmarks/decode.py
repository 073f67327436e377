"""Single steps: tokens a second of one model alone."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.engines import Worker
from benchmarks.models import VARIANTS
from benchmarks.report import Report
from benchmarks.single import ROLES, Goal, chosen, costs, named, plot_speeds, speeds
from benchmarks.texts import ids_of

PROMPT, STEPS = 64, 64
DEFAULT = [title for title in VARIANTS if "pruned" not in title]
GOALS = (
    Goal("nudge-onnx int8", "genai int8", 1.0),
    Goal("nudge-onnx int8", "genai int8, blocks of 64"),
    Goal("nudge-onnx int4-all", "genai int4", 1.0),
    Goal("nudge-onnx int4", "genai int4, int8 head", 1.0),
    Goal("nudge-onnx int8", "llama.cpp", 1.2),
    Goal("nudge-onnx int4", "llama.cpp", 1.2),
    Goal("nudge-onnx int4-all", "llama.cpp", 1.2),
    Goal("nudge-onnx fp32", "genai fp32"),
    Goal("nudge-onnx fp32", "optimum fp32"),
    Goal("nudge-onnx fp32", "transformers fp32"),
    Goal("nudge-onnx int8", "optimum dynamic int8"),
)
ABOUT = f"""
{STEPS} greedy steps behind a prompt of {PROMPT} tokens, the same ids for every engine, none of which stops at an end
token. Every engine is a process of its own with one thread per core; within a round they take turns. A ratio is the
median over rounds of what two engines took in the same round.
"""


def decode(rounds: int, only: Sequence[str] = (), steps: int = STEPS, models: Sequence[str] = ROLES) -> None:
    """Measure single steps and write the results."""
    report = Report(named("decode", models), "Decoding, one token at a time", ABOUT)

    def cost(worker: Worker) -> float:
        seconds: float = worker.ask("decode", ids=ids, count=steps)["seconds"]
        return seconds

    medians = {}
    for role in models:
        ids = ids_of(role, PROMPT)
        samples = costs(role, chosen(only, DEFAULT), rounds, 1024, "decode", cost)
        medians[role] = speeds(report, role, samples, steps, GOALS)
    plot_speeds(report, medians, "tokens per second")
    report.save()
