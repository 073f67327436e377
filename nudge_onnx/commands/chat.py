"""`nudge-onnx chat`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nudge_onnx.commands.options import answer_options, bundle_argument, colour_option, load, painter, stream_arguments
from nudge_onnx.console import read_line, write
from nudge_onnx.errors import ContextLengthError, NudgeError

if TYPE_CHECKING:
    from nudge_onnx.runtime.lm import NudgedLM

__all__ = ["command"]

_HELP = "/reset forgets the conversation, /gamma 0.4 sets gamma, /quit leaves; Ctrl-C stops an answer"


@click.command("chat")
@bundle_argument
@answer_options
@colour_option
def command(folder: Path, **options: Any) -> None:
    """Hold a conversation with the bundle DIR.

    Lines come from stdin, answers go to stdout. Type /help for commands.
    """
    with load(folder, options, slots=1) as lm:
        _Chat(lm, stream_arguments(options), options["colour"]).run()


class _Chat:
    def __init__(self, lm: NudgedLM, arguments: dict[str, Any], colour: str) -> None:
        self._lm = lm
        self._arguments = arguments
        self._show = painter(colour)
        self._keep = colour == "always" or None
        self._messages: list[dict[str, str]] = []

    def run(self) -> None:
        click.echo(_HELP, err=True)
        while True:
            try:
                line = read_line("> ").strip()
                if line in ("/quit", "/exit"):
                    return
                if line:
                    self._command(line) if line.startswith("/") else self._answer(line)
            except EOFError:
                click.echo(err=True)
                return
            except KeyboardInterrupt:
                click.echo("\n(/quit or Ctrl-D leaves)", err=True)
            except ContextLengthError as error:
                click.echo(f"Error: {error}, or forget the conversation with /reset", err=True)
            except NudgeError as error:
                # One bad line does not end a conversation.
                click.echo(f"Error: {error}", err=True)

    def _command(self, line: str) -> None:
        name, _, value = line.partition(" ")
        if name == "/reset":
            self._messages.clear()
            click.echo("(a new conversation)", err=True)
        elif name == "/gamma":
            try:
                gamma = float(value)
            except ValueError:
                gamma = -1.0
            if not 0 <= gamma <= 1:
                raise NudgeError("/gamma needs a number between 0 and 1")
            self._arguments["gamma"] = gamma
            click.echo(f"(gamma is {gamma})", err=True)
        else:
            click.echo(_HELP, err=True)

    def _answer(self, line: str) -> None:
        messages = [*self._messages, {"role": "user", "content": line}]
        stream = self._lm.stream(messages, **self._arguments)
        try:
            for piece in stream:
                write(self._show(piece), colour=self._keep)
        except KeyboardInterrupt:
            click.echo(" (stopped)", nl=False, err=True)
        finally:
            stream.close()
        write("\n")
        self._messages = [*messages, {"role": "assistant", "content": stream.answer.text}]
