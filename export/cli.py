"""`nudge-export`: the command line of the export."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from nudge_onnx.bundle import Bundle, Defaults
from nudge_onnx.choices import Policy, Precision, Target
from nudge_onnx.console import Command, as_json, write
from nudge_onnx.errors import ExportError, NudgeError

from .support.interrupts import heeded

if TYPE_CHECKING:
    from .pipeline import Request

__all__ = ["main"]

_PRECISION = click.Choice(get_args(Precision))
_NEEDED = ("torch", "transformers", "optimum.onnxruntime", "onnx", "gguf", "onnxruntime")


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--base", required=True, metavar="SRC", help="Base model: hub id, checkpoint folder, or .gguf file.")
@click.option("--nudge", required=True, metavar="SRC", help="Nudging model: a small instruct or chat model.")
@click.option("--proxy-base", metavar="SRC", help="Small unaligned model, for proxy-tuning only.")
@click.option("--output", type=click.Path(path_type=Path), metavar="DIR", help="Folder to write; --plan needs none.")
@click.option(
    "--plan", "planned", is_flag=True, help="Say what memory, disk and time it would take, and export nothing."
)
@click.option("--precision", type=_PRECISION, help="Of all models. Default: int8 for cpu, else fp16.")
@click.option("--base-precision", type=_PRECISION, help="Of the base model.")
@click.option("--nudge-precision", type=_PRECISION, help="Of the nudging model.")
@click.option(
    "--target",
    type=click.Choice(get_args(Target)),
    default="cpu",
    show_default=True,
    help="What the graphs are to run on.",
)
@click.option("--revision", metavar="REV", help="Branch, tag or commit of all hub ids.")
@click.option("--base-revision", metavar="REV", help="Of the base model.")
@click.option("--nudge-revision", metavar="REV", help="Of the nudging model.")
@click.option("--trust-remote-code", is_flag=True, help="Run Python code that a checkpoint brings. Read it first.")
@click.option("--gamma", type=click.FloatRange(0, 1), default=Defaults.gamma, show_default=True, help="Threshold.")
@click.option("--policy", type=click.Choice(get_args(Policy)), default=Defaults.policy, show_default=True)
@click.option("--system-prompt", default="", metavar="TEXT", help="Used where a caller gives none.")
@click.option("--base-template", metavar="FILE_OR_TEXT", help="Jinja template of the base model's prompt.")
@click.option(
    "--chat-template",
    metavar="FILE_OR_TEXT",
    help="Jinja template of the nudging model's prompt, or the name of one of several that it has. Default: its own.",
)
@click.option(
    "--context",
    type=click.IntRange(min=32),
    metavar="N",
    help="Longest text in tokens, prompt and answer. Default: the model's own, at most 32,768.",
)
@click.option("--name", help="Name of the bundle. Default: made from the models' names.")
@click.option("--no-pass", "skipped", multiple=True, metavar="NAME", help="Leave out a graph pass; may be repeated.")
@click.option(
    "--work",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Keep intermediate results here: another precision is quicker, and an export that was killed goes on.",
)
@click.option(
    "--allow-poor-parity",
    is_flag=True,
    help="Write a bundle even if a model keeps less than half of its most likely tokens.",
)
@click.option(
    "--overwrite", is_flag=True, help="Replace the bundle at --output when the new one is complete; never other files."
)
@click.option("--json", "json_wanted", is_flag=True, help="Print the result as one JSON object.")
def main(**options: Any) -> None:
    """Export a base model and a nudging model to one bundle that runs without PyTorch.

    Progress goes to stderr. A failed or interrupted export leaves nothing at --output.
    """
    json_wanted = options.pop("json_wanted")
    planned = options.pop("planned")
    if not planned and options["output"] is None:
        raise click.UsageError("Missing option '--output'.")
    # Before anything heavy is imported, and to the end: seconds pass in imports alone.
    with heeded():
        try:
            if planned:
                write(_plan(options, json_wanted))
                return
            bundle, seconds = _export(options)
        except NudgeError as error:
            raise click.ClickException(str(error)) from None
    write(as_json(_summary(bundle, seconds)) if json_wanted else _table(bundle) + "\n")


_PLANNED_POSITIONS = 4096
"""Tokens behind which `--plan` says what answering takes."""


def _plan(options: dict[str, Any], json_wanted: bool) -> str:
    _check_installed()
    from .plan import as_dict, as_table, plan
    from .support.progress import Progress

    plans = plan(
        _sources(options),
        revisions=_revisions(options),
        context=options["context"],
        note=Progress().note,
    )
    return as_json(as_dict(plans, _PLANNED_POSITIONS)) if json_wanted else as_table(plans, _PLANNED_POSITIONS)


def _export(options: dict[str, Any]) -> tuple[Bundle, dict[str, float]]:
    _check_installed()
    from .pipeline import export
    from .support.progress import Progress

    progress = Progress()
    return export(_request(options), progress), progress.seconds


def _request(options: dict[str, Any]) -> Request:
    from .pipeline import Request
    from .recipes import PASSES

    if unknown := set(options["skipped"]) - set(PASSES):
        raise ExportError(f"--no-pass {sorted(unknown)[0]}: there is no such pass, only {', '.join(PASSES)}")
    sources = _sources(options)
    precisions = {role: options.get(f"{role}_precision") or options["precision"] for role in sources}
    return Request(
        sources=sources,
        output=options["output"],
        target=options["target"],
        precisions={role: precision for role, precision in precisions.items() if precision},
        revisions=_revisions(options),
        trust_remote_code=options["trust_remote_code"],
        base_template=options["base_template"],
        chat_template=options["chat_template"],
        defaults=Defaults(options["gamma"], options["policy"], system_prompt=options["system_prompt"]),
        name=options["name"],
        skipped_passes=options["skipped"],
        context=options["context"],
        allow_poor_parity=options["allow_poor_parity"],
        overwrite=options["overwrite"],
        work=options["work"],
    )


def _sources(options: dict[str, Any]) -> dict[str, str]:
    roles = ("base", "nudge", *(["proxy_base"] if options["proxy_base"] else []))
    return {role: options[role] for role in roles}


def _revisions(options: dict[str, Any]) -> dict[str, str | None]:
    return {role: options.get(f"{role}_revision") or options["revision"] for role in _sources(options)}


def _check_installed() -> None:
    for module in _NEEDED:
        try:
            found = find_spec(module)
        except ModuleNotFoundError:
            found = None
        if found is None:
            raise ExportError(
                f"an export needs {module.split('.')[0]}, which is not installed; "
                "pip install 'nudge-onnx[export,cpu]' (in an environment of its own)"
            )


def _summary(bundle: Bundle, seconds: dict[str, float]) -> dict[str, Any]:
    models = {}
    for role, record in bundle.manifest.models.items():
        parity = record.parity
        models[role] = {
            "source": record.source.name,
            "precision": record.precision,
            "bytes": _size(bundle, role),
            "passes": list(record.passes),
            "parity": vars(parity) if parity else None,
        }
    return {"bundle": str(bundle.folder), "name": bundle.manifest.name, "models": models, "seconds": seconds}


def _table(bundle: Bundle) -> str:
    lines = [f"{bundle.folder}: {bundle.manifest.name}"]
    for role, record in bundle.manifest.models.items():
        parity = record.parity
        figures = f"KL {parity.kl:.4f}, top-1 {parity.top1_agreement:.1%} of PyTorch's" if parity else "not measured"
        size = _size(bundle, role) / 1e6
        lines.append(f"  {role:10} {record.source.name}  {record.precision}  {size:.0f} MB  {figures}")
    return "\n".join(lines)


def _size(bundle: Bundle, role: str) -> int:
    return sum(record.bytes for path, record in bundle.manifest.files.items() if path.startswith(f"{role}/"))
