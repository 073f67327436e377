"""`nudge-onnx batch`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nudge_onnx.arguments import CACHE_MIB, MOST_SLOTS, SLOTS
from nudge_onnx.batch_files import BadLine, BatchOutput, Line, read_lines
from nudge_onnx.commands.options import answer_options, bundle_argument, load, stream_arguments
from nudge_onnx.commands.rate import Rate
from nudge_onnx.errors import NudgeError

if TYPE_CHECKING:
    from nudge_onnx.runtime.lm import NudgedLM
    from nudge_onnx.runtime.stream import Stream

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
@click.option(
    "--cache-mib",
    type=click.IntRange(min=0),
    default=CACHE_MIB,
    show_default=True,
    help="Most MiB of KV caches; answers beyond them wait.",
)
@click.option("--pieces", is_flag=True, help="Also write who wrote which tokens, and how certain they were.")
@click.option("--overwrite", is_flag=True, help="Begin anew, whatever is there.")
@answer_options
def command(
    folder: Path,
    source: Path,
    target: Path,
    at_once: int,
    cache_mib: int,
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
    with load(folder, options, slots=at_once, cache_mib=cache_mib) as lm:
        run = {"bundle": lm.bundle.manifest.created, "options": repr(arguments), "pieces": pieces}
        with BatchOutput.opened(target, source, run, overwrite=overwrite) as output:
            _answer(lm, lines, output, arguments, pieces)
        failed = output.failed
    status = failed if failed <= _MOST_COUNTED else _MORE_THAN_COUNTED
    if failed:
        click.echo(f"{failed} of {len(lines)} lines have an error", err=True)
    click.get_current_context().exit(status)


def _answer(
    lm: NudgedLM,
    lines: list[Line | BadLine],
    output: BatchOutput,
    arguments: dict[str, Any],
    pieces: bool,
) -> None:
    from nudge_onnx.runtime.many import answers

    left = lines[output.done :]
    if output.done:
        click.echo(f"going on behind {output.done} of {len(lines)} lines", err=True)
    begun = (_begin(lm, line, arguments) for line in left)
    with Rate(len(lines), output.done) as rate, closing(answers(begun, lm.slots)) as found_in_order:
        for line, answer in zip(left, found_in_order, strict=True):
            found = answer.to_dict()
            kept = ("text", "finish_reason", "error", "tokens", "nudging_ratio", *(("pieces",) if pieces else ()))
            output.add({"id": line.id, **{name: found[name] for name in kept}}, failed=answer.error is not None)
            rate.add(sum(answer.tokens.values()))


def _begin(lm: NudgedLM, line: Line | BadLine, arguments: Mapping[str, Any]) -> Callable[[], Stream]:
    def begin() -> Stream:
        if isinstance(line, BadLine):
            raise NudgeError(line.reason)
        return lm.stream(line.prompt, **{**arguments, **_own_options(line.options)})

    return begin


def _own_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """What a line asks for, with its samplings as objects."""
    from nudge_onnx.runtime.choosing.sampling import Sampling

    own = dict(options)
    for name in ("sampling", "nudge_sampling"):
        if isinstance(own.get(name), Mapping):
            try:
                own[name] = Sampling(**own[name])
            except TypeError:
                raise NudgeError(f"{name} has a name that there is none of: {', '.join(own[name])}") from None
    return own
