"""`nudge-onnx run`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nudge_onnx.commands.options import (
    READS_AHEAD,
    answer_options,
    bundle_argument,
    colour_option,
    load,
    painter,
    stream_arguments,
)
from nudge_onnx.console import as_json, read_text, write

if TYPE_CHECKING:
    from nudge_onnx.runtime.nudging.results import Answer

__all__ = ["command"]


@click.command("run")
@bundle_argument
@click.argument("prompt")
@click.option("--json", "json_wanted", is_flag=True, help="Print one JSON object instead of text.")
@click.option("--stats", is_flag=True, help="Print figures on stderr at the end.")
@answer_options
@colour_option
def command(folder: Path, prompt: str, json_wanted: bool, stats: bool, **options: Any) -> None:
    """Answer PROMPT with the bundle DIR; the answer streams to stdout.

    PROMPT is - to read it from stdin.
    """
    text = read_text() if prompt == "-" else prompt
    if not text.strip():
        raise click.UsageError("the prompt is empty")
    show = painter(options["colour"])
    # click would strip colours from a pipe, also where --colour always asks for them.
    keep = options["colour"] == "always" or None
    with load(folder, options, slots=1) as lm, lm.stream(text, **stream_arguments(options)) as stream:
        for piece in stream:
            if not json_wanted:
                write(show(piece), colour=keep)
        write(as_json({**stream.answer.to_dict(), "row_bits": lm.row_bits}) if json_wanted else "\n")
        if stats:
            rows = {role: READS_AHEAD[bits] for role, bits in lm.row_bits.items()}
            figures = (_summary(stream.answer), _by_role(lm.providers, "on {}"), _by_role(rows, "{}"))
            click.echo(", ".join(figures), err=True)


def _summary(answer: Answer) -> str:
    tokens, timings = answer.tokens, answer.timings
    memory = f"peak memory {timings.peak_memory / 2**20:,.0f} MiB, " if timings.peak_memory else ""
    return (
        f"{sum(tokens.values())} tokens ({tokens['base']} base, {tokens['nudge']} nudging, "
        f"ratio {answer.nudging_ratio:.0%}), {answer.tokens_per_second:.1f} tokens/s, "
        f"load {timings.load:.2f} s, prefill {timings.prefill:.2f} s, decode {timings.decode:.2f} s, "
        f"{memory}finish: {answer.finish_reason}"
    )


def _by_role(values: Mapping[str, str], form: str) -> str:
    """One text where all models have the same value, else one for each."""
    distinct = set(values.values())
    if len(distinct) == 1:
        return form.format(*distinct)
    return ", ".join(f"{role} {form.format(value)}" for role, value in values.items())
