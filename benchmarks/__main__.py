"""`python -m benchmarks NAME`: one command a benchmark, and `all`."""

from __future__ import annotations

from collections.abc import Callable

import click

from . import peers as environments
from .decode import decode
from .prefill import prefill


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Measure nudge-onnx beside its peers; results go to benchmarks/results. `make bundles` comes first."""


def _measured(function: Callable[..., None]) -> Callable[..., None]:
    options = (
        click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Rounds that are kept."),
        click.option("--quick", is_flag=True, help="One round: to see that it works."),
    )
    for option in options:
        function = option(function)
    return function


_only = click.option("--only", multiple=True, help="Take part of those whose title holds this; may be repeated.")


@main.command("peers")
@click.argument("names", nargs=-1, type=click.Choice(environments.NAMES))
def peers_command(names: tuple[str, ...]) -> None:
    """Make the peers' environments, or those named."""
    for name in names or environments.NAMES:
        python = environments.python_of(name)
        click.echo(f"{name}: {environments.installed_bytes(name) / 1e6:.0f} MB, {python.parent.parent}")


@main.command("decode")
@_measured
@_only
def decode_command(rounds: int, quick: bool, only: tuple[str, ...]) -> None:
    """Single steps of each model alone."""
    decode(1 if quick else rounds, only)


@main.command("prefill")
@_measured
@_only
def prefill_command(rounds: int, quick: bool, only: tuple[str, ...]) -> None:
    """Prompts of 64 to 1,024 tokens."""
    prefill(1 if quick else rounds, only)


if __name__ == "__main__":
    main()
