"""Where a command meets its terminal, pipe or file: whatever is wrong there is one line and an exit status."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import click

from nudge_onnx.errors import NudgeError

__all__ = ["Command", "Group", "OutputError", "as_json", "read_line", "read_text", "wants_colour", "write"]

_INTERRUPTED = 130
"""What a shell expects of a command that Ctrl-C ended."""


class OutputError(click.ClickException):
    """What a command says cannot be written to stdout."""


class _Interrupted(click.ClickException):
    def __init__(self) -> None:
        super().__init__("interrupted")

    def show(self, file: Any = None) -> None:
        click.echo("Interrupted", file=file, err=True)


class _Console(click.Command):
    """Ends a command with one line on stderr and a status: 130 for Ctrl-C, 2 for a wrong call, 1 for all else."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run the command; see `click.Command.main`."""
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, False, **extra)
        _hold_descriptors()
        _be_lenient()
        error: click.ClickException | None = None
        status: Any = 1
        try:
            if sys.stdout is None:
                raise OutputError("stdout is closed; give it a terminal, a pipe or a file")
            # What click returns without standalone mode is the status of --help and --version.
            status = super().main(args, prog_name, complete_var, False, **extra) or 0
        except click.ClickException as found:
            error, status = found, found.exit_code
        except NudgeError as found:
            error = click.ClickException(str(found))
        except (click.Abort, KeyboardInterrupt):
            error, status = _Interrupted(), _INTERRUPTED
        except MemoryError:
            error = click.ClickException("there is not enough memory")
        except OSError as found:
            where = f"{found.filename}: " if found.filename else ""
            error = click.ClickException(f"{where}{found.strerror or found}")
        return _leave(error, status)


class Command(_Console):
    """A command that meets its terminal well."""


class Group(_Console, click.Group):
    """The same with commands below it."""


def write(text: str, *, colour: bool | None = None) -> None:
    """Write `text` to stdout, at once; characters that it cannot show become `?`.

    `colour` is click's: whether styles are kept, by default where stdout is a terminal. Raises `OutputError` if
    stdout takes no more: a full disk, or a pipe whose reader has gone.
    """
    try:
        # Named, for click would write UTF-8 to a stdout that says it is ASCII.
        click.echo(text, file=sys.stdout, nl=False, color=colour)
    except (OSError, ValueError) as error:  # a ValueError is a stream that was closed
        reason = error.strerror if isinstance(error, OSError) else None
        raise OutputError(f"stdout takes no more ({reason or error}); what follows is lost") from None


def as_json(value: Any) -> str:
    """`value` as one line of JSON, in ASCII where stdout cannot show every character."""
    encoding = (getattr(sys.stdout, "encoding", None) or "").lower().replace("_", "-")
    return json.dumps(value, ensure_ascii=encoding not in ("utf-8", "utf8")) + "\n"


def read_text() -> str:
    """All of stdin; bytes that are no text are lone surrogates. Raises `NudgeError` where it is closed or broken."""
    with _reading():
        return str(_stdin().read())


def read_line(prompt: str) -> str:
    """The next line of stdin, without its end, bytes that are no text as lone surrogates; a terminal shows `prompt`.

    Raises `EOFError` at the end, and `click.ClickException` if there is no stdin to read from.
    """
    try:
        with _reading():
            terminal = _stdin().isatty()
            if terminal:
                with contextlib.suppress(ImportError):
                    import readline  # noqa: F401  (line editing and history, where Python has it)
            return input(prompt if terminal else "")
    except NudgeError as error:
        # Not a line to be said otherwise, but the end of the conversation.
        raise click.ClickException(str(error)) from None


def wants_colour(colour: str) -> bool:
    """Whether to colour, for `always`, `never` or `auto`: a terminal, but for `NO_COLOR` and `TERM=dumb`."""
    if colour != "auto":
        return colour == "always"
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return not plain and sys.stdout is not None and sys.stdout.isatty()


def _stdin() -> Any:
    if sys.stdin is None:
        raise NudgeError("stdin is closed; give it a terminal, a pipe or a file")
    return sys.stdin


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise NudgeError(f"stdin cannot be read ({error.strerror or error})") from None


def _hold_descriptors() -> None:
    """Open what is closed of stdin, stdout and stderr: the next file opened would take its place, and its output."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _be_lenient() -> None:
    """Let no character end a command: those that stdout cannot show are replaced, bytes that are no text are kept."""
    for stream, errors in ((sys.stdin, "surrogateescape"), (sys.stdout, "replace"), (sys.stderr, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)


def _leave(error: click.ClickException | None, status: int) -> NoReturn:
    """Show `error`, if any, and exit."""
    with contextlib.suppress(OSError, ValueError):
        if error is not None:
            error.show()
    for stream in (sys.stdout, sys.stderr):
        _flush(stream)
    sys.exit(status)


def _flush(stream: Any) -> None:
    try:
        if stream is not None:
            stream.flush()
    except (OSError, ValueError):
        # Python flushes once more when it exits, and would complain: what is left goes nowhere.
        with contextlib.suppress(OSError, ValueError, io.UnsupportedOperation):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
