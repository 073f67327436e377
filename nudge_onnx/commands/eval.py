"""`nudge-onnx eval`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from nudge_onnx.commands.options import bundle_argument, load, stream_arguments, writing_options
from nudge_onnx.commands.rate import Rate
from nudge_onnx.console import as_json, write
from nudge_onnx.errors import RuntimeMissingError
from nudge_onnx.files import check_writable, write_whole
from nudge_onnx.limits import MOST_SLOTS, SLOTS

__all__ = ["command"]


@click.command("eval")
@bundle_argument
@click.option("--task", "tasks", multiple=True, required=True, metavar="NAME", help="A task; may be repeated.")
@click.option(
    "--data",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="DIR",
    help="Where the examples of the paper's tasks are, one NAME.jsonl each.",
)
@click.option(
    "--include",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="DIR",
    help="A folder of lm-eval's task files of your own; may be repeated.",
)
@click.option("--limit", type=click.IntRange(1), help="Only the first examples of each task.")
@click.option("--sample", type=click.IntRange(1), help="Only so many examples of each task, drawn by --seed.")
@click.option("--few-shot", type=click.IntRange(0), help="Examples in each prompt [the task's].")
@click.option("--no-bos", is_flag=True, help="With --raw: no BOS before texts, as lm-eval's local-completions has it.")
@click.option(
    "--raw", is_flag=True, help="Prompts are texts as they stand; by default messages, in each model's template."
)
@click.option(
    "--at-once", type=click.IntRange(1, MOST_SLOTS), default=SLOTS, show_default=True, help="Answers written at a time."
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write figures and answers as JSON.",
)
@click.option("--json", "json_wanted", is_flag=True, help="Print the figures as JSON.")
@writing_options
def command(
    folder: Path,
    tasks: Sequence[str],
    data: Path | None,
    include: Sequence[Path],
    limit: int | None,
    sample: int | None,
    few_shot: int | None,
    raw: bool,
    no_bos: bool,
    at_once: int,
    output: Path | None,
    json_wanted: bool,
    **options: Any,
) -> None:
    """Evaluate the bundle DIR on tasks of lm-eval (`nudge-onnx[eval]`).

    Tasks in the paper's settings, from local files: nudging_gsm8k, nudging_svamp, nudging_multiarith, nudging_mmlu,
    nudging_arc_challenge, nudging_csqa, nudging_strategyqa, nudging_sports, nudging_date, nudging_coin_flip,
    nudging_last_letter. Others by the names that lm-eval knows.

    Tasks that score texts need --mode base or --mode nudge.
    """
    if limit is not None and sample is not None:
        raise click.UsageError("--limit and --sample both say how many examples; give one of them")
    if output is not None:
        check_writable(output)
    try:
        from nudge_onnx.evaluation.harness import Harness
        from nudge_onnx.evaluation.running import evaluate, table
    except ImportError as error:
        raise RuntimeMissingError(
            f"eval needs lm-eval, which is not installed ({error}); pip install 'nudge-onnx[eval]'"
        ) from None
    from nudge_onnx.runtime.choosing.sampling import Sampling

    arguments = stream_arguments(options)
    mode = arguments.pop("mode")
    if arguments["sampling"] == Sampling(seed=options["seed"]):
        del arguments["sampling"]  # nothing was asked for, so tasks say
    with load(folder, options, slots=at_once) as lm, Rate(None, 0) as rate:
        model = Harness(lm, mode, lambda answer: rate.add(sum(answer.tokens.values())), not no_bos, **arguments)
        found = evaluate(
            model,
            tasks,
            data=data,
            include=include,
            limit=limit,
            sample=sample,
            seed=options["seed"],
            fewshot=few_shot,
            chat=not raw,
        )
    figures = {name: _figures(one) for name, one in found["results"].items()}
    if output is not None:
        whole = {"mode": mode, "options": _shown(arguments), "results": figures, "samples": found.get("samples", {})}
        write_whole(output, (json.dumps(whole, ensure_ascii=False, indent=1, default=str) + "\n").encode())
    write(as_json(figures) if json_wanted else table(found) + "\n")


def _figures(one: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers of a task, without those that could not be computed."""
    return {name: value for name, value in one.items() if isinstance(value, int | float)}


def _shown(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if value is not None and name != "sampling"}
