"""`nudge-onnx batch`."""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TypeAlias

import click

from nudge_onnx.batch_files import BadLine, BatchOutput, Line, read_lines
from nudge_onnx.bundle import Bundle
from nudge_onnx.commands.options import (
    answer_options,
    bundle_argument,
    cache_option,
    load,
    load_arguments,
    stream_arguments,
)
from nudge_onnx.commands.rate import Rate
from nudge_onnx.errors import RuntimeMissingError
from nudge_onnx.limits import MOST_SLOTS, SLOTS

__all__ = ["command"]

# As GNU parallel has them.
_MOST_COUNTED = 100
_MORE_THAN_COUNTED = 101


@click.command("batch")
@bundle_argument
@click.argument("source", metavar="IN.JSONL", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("target", metavar="OUT.JSONL", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--at-once", type=click.IntRange(1, MOST_SLOTS), default=SLOTS, show_default=True, help="Answers written at a time."
)
@cache_option
@click.option("--engine", type=click.Choice(["local", "ray"]), default="local", show_default=True, help="Who answers.")
@click.option(
    "--processes",
    type=click.IntRange(1, 10_000),
    default=1,
    show_default=True,
    help="With ray: so many, on any machine.",
)
@click.option("--ray-address", metavar="HOST:PORT", help="With ray: a cluster that runs [one on this machine].")
@click.option("--pieces", is_flag=True, help="Also write who wrote which tokens, and how certain they were.")
@click.option("--overwrite", is_flag=True, help="Begin anew, whatever is there.")
@answer_options
def command(
    folder: Path,
    source: Path,
    target: Path,
    at_once: int,
    cache_mib: int,
    engine: str,
    processes: int,
    ray_address: str | None,
    pieces: bool,
    overwrite: bool,
    **options: Any,
) -> None:
    """Answer the prompts of IN.JSONL with the bundle DIR, and write the answers to OUT.JSONL.

    \b
    Each line of IN.JSONL is an object:
      "id"        any value, given back with the answer
      "prompt"    a text, or "messages", a list of {"role": ..., "content": ...}
      "options"   of this answer alone, as NudgedLM.stream has them

    Each line of OUT.JSONL has "id", "text", "finish_reason", "error", "tokens" and "nudging_ratio", in the order of
    IN.JSONL. A line that cannot be answered has an "error". The exit status is the number of such lines, 101 for more
    than 100.

    A run that was ended before its time goes on where it stopped when it is called again: what is done stays in
    OUT.JSONL.part.
    """
    arguments = stream_arguments(options)
    lines = list(read_lines(source))
    created = Bundle.open(folder).manifest.created
    sizes = {"slots": at_once, "cache_mib": cache_mib}
    run = {"bundle": created, "options": repr(arguments), "pieces": pieces}
    with BatchOutput.opened(target, source, run, overwrite=overwrite) as output:
        if output.done:
            click.echo(f"going on behind {output.done} of {len(lines)} lines", err=True)
        left = lines[output.done :]
        if engine == "ray":
            written = _on_ray(folder, left, arguments, options, sizes, processes, ray_address)
        else:
            written = _here(folder, left, arguments, options, sizes)
        with closing(written), Rate(len(lines), output.done) as rate:
            for line, answer in zip(left, written, strict=True):
                kept = ("text", "finish_reason", "error", "tokens", "nudging_ratio", *(("pieces",) if pieces else ()))
                found = {"id": line.id, **{name: answer[name] for name in kept}}
                output.add(found, failed=answer["error"] is not None)
                rate.add(sum(answer["tokens"].values()))
    failed = output.failed
    status = failed if failed <= _MOST_COUNTED else _MORE_THAN_COUNTED
    if failed:
        click.echo(f"{failed} of {len(lines)} lines have an error", err=True)
    click.get_current_context().exit(status)


Answers: TypeAlias = Generator[Mapping[str, Any], None, None]


def _here(
    folder: Path,
    lines: Sequence[Line | BadLine],
    arguments: dict[str, Any],
    options: dict[str, Any],
    sizes: dict[str, int],
) -> Answers:
    from nudge_onnx.batch_answers import written

    with load(folder, options, **sizes) as lm:
        yield from written(lm, lines, arguments)


def _on_ray(
    folder: Path,
    lines: Sequence[Line | BadLine],
    arguments: dict[str, Any],
    options: dict[str, Any],
    sizes: dict[str, int],
    processes: int,
    address: str | None,
) -> Answers:
    try:
        from nudge_onnx.cluster.batches import written_on_ray
    except ImportError as error:
        raise RuntimeMissingError(
            f"--engine ray needs {error.name}, which is not installed; pip install 'nudge-onnx[ray]'"
        ) from None
    chosen = load_arguments(options) | sizes
    cpus = chosen["threads"] = chosen["threads"] or max(1, (os.cpu_count() or 1) // processes)
    yield from written_on_ray(folder, lines, arguments, chosen, processes=processes, cpus=cpus, address=address)
