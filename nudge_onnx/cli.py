"""The command group `nudge-onnx`. A command's module is imported when it is called, so that `--help` is quick."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click

from nudge_onnx import __version__
from nudge_onnx.console import Group
from nudge_onnx.errors import NudgeError

__all__ = ["main"]

_COMMANDS = {
    "run": "Answer one prompt.",
    "chat": "Hold a conversation.",
    "batch": "Answer a file of prompts.",
    "serve": "Serve clients of OpenAI's API, and a page.",
    "calibrate": "Choose gamma on prompts of your own.",
    "eval": "Evaluate on tasks of lm-eval.",
    "judge": "Have a judge rate open answers.",
    "inspect": "Show what a bundle holds, and check it.",
}


class _Group(Group):
    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = import_module(f".commands.{cmd_name}", __package__)
        command: click.Command = module.command
        return command

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except NudgeError as error:
            raise click.ClickException(str(error)) from None


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="nudge-onnx")
def main() -> None:
    """Run bundles: a large base model that a small aligned one nudges, on ONNX Runtime.

    Bundles are written by nudge-export.
    """
