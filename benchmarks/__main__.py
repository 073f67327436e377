"""`python -m benchmarks NAME`: one command a benchmark, and `all`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from benchmarks import peers as environments
from benchmarks.answers import MOST_TOKENS, QUESTIONS, answers
from benchmarks.context import LENGTHS as CONTEXT_LENGTHS
from benchmarks.context import context
from benchmarks.decode import STEPS, decode
from benchmarks.footprint import footprint
from benchmarks.nudged import PAIRS, TOKENS, nudged
from benchmarks.operators import operators
from benchmarks.places import TITLES
from benchmarks.prefill import LENGTHS as PREFILL_LENGTHS
from benchmarks.prefill import prefill
from benchmarks.quality import TOKENS as QUALITY_TOKENS
from benchmarks.quality import quality
from benchmarks.rows import REPEATS, rows
from benchmarks.serving import PROMPT_COUNT as SERVED_PROMPTS
from benchmarks.serving import serving
from benchmarks.single import ROLES
from benchmarks.step import step
from benchmarks.tails import TOKENS as TAIL_TOKENS
from benchmarks.tails import tails
from benchmarks.throughput import AT_ONCE, PROMPT_COUNT, throughput
from benchmarks.throughput import TOKENS as ANSWER_TOKENS


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Measure nudge-onnx beside its peers; results go to benchmarks/results. `make bundles` comes first."""


def _measured(rounds: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Options of a benchmark that takes rounds; the default is what two cores do in about five minutes."""

    def add(function: Callable[..., None]) -> Callable[..., None]:
        count = click.IntRange(1)
        several = click.option("--rounds", type=count, default=rounds, show_default=True, help="Rounds that are kept.")
        return several(click.option("--quick", is_flag=True, help="One round: to see that it works.")(function))

    return add


_only = click.option("--only", multiple=True, help="Measure these alone: a title, or a part of some; may be repeated.")


_models = click.option(
    "--model",
    "models",
    multiple=True,
    type=click.Choice(list(TITLES)),
    default=ROLES,
    show_default=True,
    help="Which models; may be repeated. `make bundles-large` comes before the large one.",
)


@main.command("peers")
@click.argument("names", nargs=-1, type=click.Choice(environments.NAMES))
def peers_command(names: tuple[str, ...]) -> None:
    """Make the peers' environments, or those named."""
    for name in names or environments.NAMES:
        python = environments.python_of(name)
        click.echo(f"{name}: {environments.installed_bytes(name) / 1e6:.0f} MB, {python.parent.parent}")


@main.command("decode")
@_measured(5)
@_only
@_models
def decode_command(rounds: int, quick: bool, only: tuple[str, ...], models: tuple[str, ...]) -> None:
    """Single steps of each model alone."""
    decode(1 if quick else rounds, only, 8 if quick else STEPS, models)


@main.command("prefill")
@_measured(3)
@_only
@_models
def prefill_command(rounds: int, quick: bool, only: tuple[str, ...], models: tuple[str, ...]) -> None:
    """Prompts of 64 to 1,024 tokens."""
    prefill(1 if quick else rounds, only, (64, 128) if quick else PREFILL_LENGTHS, models)


@main.command("nudged")
@_measured(5)
@click.option("--pair", "pairs", multiple=True, type=click.Choice(list(PAIRS)), default=list(PAIRS), show_default=True)
@click.option("--torch/--no-torch", default=True, help="Let transformers take part in the first round.")
def nudged_command(rounds: int, quick: bool, pairs: tuple[str, ...], torch: bool) -> None:
    """Whole answers of the demo pair and of the large pair."""
    for pair in pairs:
        nudged(PAIRS[pair](), 1 if quick else rounds, 16 if quick else TOKENS, torch)


@main.command("throughput")
@click.option("--pair", "pairs", multiple=True, type=click.Choice(list(PAIRS)), default=list(PAIRS), show_default=True)
@click.option("--prompts", type=click.IntRange(1), default=PROMPT_COUNT, show_default=True)
@click.option("--at-once", multiple=True, type=click.IntRange(1), default=AT_ONCE, show_default=True)
@click.option("--quick", is_flag=True, help="A few prompts: to see that it works.")
def throughput_command(pairs: tuple[str, ...], prompts: int, at_once: tuple[int, ...], quick: bool) -> None:
    """Many answers at once, of the demo pair and of the large pair."""
    for pair in pairs:
        throughput(pair, 4 if quick else prompts, 16 if quick else ANSWER_TOKENS, (1, 2) if quick else at_once)


@main.command("serving")
@_measured(3)
@click.option("--pair", "pairs", multiple=True, type=click.Choice(list(PAIRS)), default=["real"], show_default=True)
@click.option("--prompts", type=click.IntRange(1), default=SERVED_PROMPTS, show_default=True)
def serving_command(rounds: int, quick: bool, pairs: tuple[str, ...], prompts: int) -> None:
    """The server over HTTP, beside the engine without it."""
    for pair in pairs:
        serving(pair, 8 if quick else prompts, 16 if quick else ANSWER_TOKENS, 1 if quick else rounds)


@main.command("answers")
@click.argument("data", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--pair", "pairs", multiple=True, type=click.Choice(list(PAIRS)), default=list(PAIRS), show_default=True)
@click.option("--questions", type=click.IntRange(1), default=QUESTIONS, show_default=True)
@click.option("--max-new-tokens", "most", type=click.IntRange(1), default=MOST_TOKENS, show_default=True)
def answers_command(data: Path, pairs: tuple[str, ...], questions: int, most: int) -> None:
    """Whether answers are right, in each mode, by gate, gamma and tail; DATA is GSM8K's test set as JSON lines."""
    for pair in pairs:
        answers(pair, data, questions, most)


@main.command("tails")
@_measured(3)
@click.option("--pair", "pairs", multiple=True, type=click.Choice(list(PAIRS)), default=list(PAIRS), show_default=True)
@click.option("--tokens", type=click.IntRange(1), default=TAIL_TOKENS, show_default=True)
def tails_command(rounds: int, quick: bool, pairs: tuple[str, ...], tokens: int) -> None:
    """Both tails, and drafts that entropy stops."""
    for pair in pairs:
        tails(pair, 1 if quick else rounds, 8 if quick else tokens)


@main.command("context")
@_measured(2)
@_only
def context_command(rounds: int, quick: bool, only: tuple[str, ...]) -> None:
    """Steps behind 64 to 4,096 tokens."""
    context(1 if quick else rounds, only, (64, 512) if quick else CONTEXT_LENGTHS)


@main.command("rows")
@_measured(2)
@_only
def rows_command(rounds: int, quick: bool, only: tuple[str, ...]) -> None:
    """Passes over 1 to 16 tokens at once."""
    rows(1 if quick else rounds, only, 1 if quick else REPEATS)


@main.command("footprint")
@_measured(2)
@_only
def footprint_command(rounds: int, quick: bool, only: tuple[str, ...]) -> None:
    """Memory, load time, installed size."""
    footprint(1 if quick else rounds, only)


@main.command("step")
@_measured(1)
def step_command(rounds: int, quick: bool) -> None:
    """What a step of nudged decoding is made of."""
    step(1 if quick else rounds)


@main.command("operators")
@_measured(5)
def operators_command(rounds: int, quick: bool) -> None:
    """What a step inside ONNX Runtime is made of."""
    operators(1 if quick else rounds)


@main.command("quality")
@click.option("--quick", is_flag=True, help="A short text: to see that it works.")
@_only
def quality_command(quick: bool, only: tuple[str, ...]) -> None:
    """Divergence from PyTorch, and the frontier of quality, speed and size."""
    quality(only, 64 if quick else QUALITY_TOKENS)


@main.command("all")
@click.option("--quick", is_flag=True, help="As little as possible of each: to see that it works.")
@click.pass_context
def all_command(context: click.Context, quick: bool) -> None:
    """Every benchmark, one after the other."""
    for name in (
        "decode",
        "prefill",
        "context",
        "rows",
        "nudged",
        "throughput",
        "serving",
        "footprint",
        "step",
        "operators",
        "quality",
        "tails",
    ):
        context.invoke(main.commands[name], quick=quick)


if __name__ == "__main__":
    main()
