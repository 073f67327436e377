"""`nudge-onnx judge`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from nudge_onnx.batch_files import BadLine, read_lines
from nudge_onnx.commands.rate import Rate
from nudge_onnx.console import as_json, write
from nudge_onnx.errors import NudgeError, RuntimeMissingError
from nudge_onnx.files import check_writable, write_whole
from nudge_onnx.strict_json import parse

__all__ = ["command"]


@click.command("judge")
@click.argument("prompts", metavar="PROMPTS.JSONL", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("answers", metavar="ANSWERS.JSONL", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--url", required=True, help="Base of an OpenAI-compatible API, as in http://host:8000/v1.")
@click.option("--model", required=True, help="The judge, as the API names it.")
@click.option("--safety", is_flag=True, help="Rate safety alone, of answers to requests that may be harmful.")
@click.option("--max-tokens", type=click.IntRange(16), default=1024, show_default=True, help="Of the judge's reply.")
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write each rating as a JSON line.",
)
@click.option("--json", "json_wanted", is_flag=True, help="Print the means as JSON.")
def command(
    prompts: Path,
    answers: Path,
    url: str,
    model: str,
    safety: bool,
    max_tokens: int,
    output: Path | None,
    json_wanted: bool,
) -> None:
    """Have a judge rate answers of `nudge-onnx batch`, from 1 to 5 in the aspects of just-eval (`nudge-onnx[eval]`).

    PROMPTS.JSONL is what the batch read and ANSWERS.JSONL what it wrote. The API's key is in OPENAI_API_KEY.
    """
    try:
        from nudge_onnx.evaluation.judge import ASPECTS, SAFETY, Judge, means
    except ImportError as error:
        raise RuntimeMissingError(
            f"judge needs openai, which is not installed ({error}); pip install 'nudge-onnx[eval]'"
        ) from None
    if output is not None:
        check_writable(output)
    pairs = list(_pairs(prompts, answers))
    judge = Judge(url, model, SAFETY if safety else ASPECTS, tokens=max_tokens)
    ratings: list[dict[str, Any]] = []
    with Rate(len(pairs), 0) as rate:
        for _, instruction, answer in pairs:
            ratings.append(judge.rate(instruction, answer))
            rate.add(0)
    if output is not None:
        lines = [
            json.dumps({"id": name, "ratings": one}, ensure_ascii=False)
            for (name, _, _), one in zip(pairs, ratings, strict=True)
        ]
        write_whole(output, "".join(line + "\n" for line in lines).encode())
    found = dict(means(ratings))
    if json_wanted:
        write(as_json({"answers": len(ratings), "means": found}))
    else:
        write("".join(f"{name:<12} {value:.2f}\n" for name, value in found.items()))


def _pairs(prompts: Path, answers: Path) -> Iterator[tuple[Any, str, str]]:
    """Id, instruction and answer of each line; the lines of both files belong together in their order."""
    lines = list(read_lines(prompts))
    try:
        found = [parse(line) for line in answers.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise NudgeError(f"{answers} cannot be read ({error})") from None
    if len(lines) != len(found):
        raise NudgeError(
            f"{prompts} has {len(lines)} prompts and {answers} {len(found)} answers; give those of one batch"
        )
    for line, answer in zip(lines, found, strict=True):
        if isinstance(line, BadLine):
            raise NudgeError(f"{prompts}: {line.reason}")
        if not isinstance(answer, dict) or answer.get("id") != line.id or not isinstance(answer.get("text"), str):
            raise NudgeError(f"{answers} has no answer to {line.id!r} in its place; give those of one batch")
        asked = line.prompt if isinstance(line.prompt, str) else line.prompt[-1]["content"]
        yield line.id, asked, answer["text"]
