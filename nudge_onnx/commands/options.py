"""Options that several commands share, and what they turn into."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import click

from nudge_onnx.choices import ControlTokens, GateName, Mode, Policy, ReadAhead, Tail
from nudge_onnx.console import wants_colour
from nudge_onnx.limits import CACHE_MIB

if TYPE_CHECKING:
    from nudge_onnx.runtime.lm import NudgedLM
    from nudge_onnx.runtime.nudging.results import Piece

__all__ = [
    "READS_AHEAD",
    "answer_options",
    "bundle_argument",
    "cache_option",
    "colour_option",
    "load",
    "load_arguments",
    "painter",
    "provider_options",
    "stream_arguments",
    "writing_options",
]

READS_AHEAD = {
    "all": "reads ahead in passes of any size",
    "pairs": "reads ahead in passes of two rows or more",
    "eights": "reads ahead in passes of eight rows",
    "none": "reads nothing ahead: no two passes share bits here",
}
"""What each value of `NudgedLM.row_bits` means, in words."""

Command = TypeVar("Command", bound=Callable[..., Any])

bundle_argument = click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))


class _Speculation(click.ParamType[Any]):
    name = "auto|off|entropy|N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value in get_args(ReadAhead):
            return value
        try:
            return int(value)
        except ValueError:
            self.fail(f"{value!r} is none of auto, off, entropy, or a number of tokens", param, ctx)


class _ProviderOption(click.ParamType[Any]):
    name = "provider.key=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, tuple):
            return value
        # Only the first dot and the first sign count: values hold both (paths, shape profiles).
        target, equals, text = str(value).partition("=")
        provider, dot, key = target.partition(".")
        if not (provider and dot and key and equals):
            self.fail(f"{value!r} is not of the form provider.key=value, as in cuda.device_id=1", param, ctx)
        return provider.lower(), key, text


_OPTIONS = [
    click.option(
        "--mode",
        type=click.Choice(get_args(Mode)),
        default="nudged",
        help="Both models (default), one of them alone, or a baseline of the paper.",
    ),
    click.option("--gamma", type=float, help="Nudge where the base model is less certain than this [bundle's]."),
    click.option(
        "--policy", type=click.Choice(get_args(Policy)), help="Where the base model may take over [bundle's]."
    ),
    click.option("--gate", type=click.Choice(get_args(GateName)), help="What certainty means [bundle's]."),
    click.option("--gate-temperature", type=float, help="Divides the logits that the gate reads [bundle's]."),
    click.option(
        "--tail",
        type=click.Choice(get_args(Tail)),
        help="Where an end of the nudging model counts: in all of a draft, or only before the base model takes over "
        "(lazy) [bundle's].",
    ),
    click.option("--draft-tokens", type=int, help="Most tokens of one draft [bundle's]."),
    click.option(
        "--control-tokens",
        type=click.Choice(get_args(ControlTokens)),
        default="allow",
        show_default=True,
        help="What a message that spells a special token does: it is one, an error, or text.",
    ),
    click.option(
        "--speculation", type=_Speculation(), default="auto", show_default=True, help="Read ahead; same answer."
    ),
    click.option("--temperature", type=float, default=0.0, show_default=True, help="0 is greedy."),
    click.option("--top-k", type=int, default=0, help="Sample among the k most probable tokens."),
    click.option("--top-p", type=float, default=1.0, help="Sample among tokens of this total probability."),
    click.option("--min-p", type=float, default=0.0, help="Drop tokens below this times the top probability."),
    click.option("--repetition-penalty", type=float, default=1.0, help="Above 1: discourage repeated tokens."),
    click.option("--seed", type=int, default=0, show_default=True, help="Of sampling."),
]
_TEXT_OPTIONS = [
    click.option("--max-new-tokens", type=int, default=256, show_default=True, help="Most tokens of an answer."),
    click.option("--stop", multiple=True, help="End before this text. May be repeated."),
    click.option("--system-prompt", help="Instruction for both models [bundle's]."),
]
_PROVIDER_OPTIONS = [
    click.option(
        "--provider", "providers", multiple=True, help="cpu, cuda, tensorrt, ...; repeat for fallbacks [cpu]."
    ),
    click.option(
        "--provider-option",
        "provider_options",
        type=_ProviderOption(),
        multiple=True,
        help="One of a provider's own options, as in cuda.device_id=1; may be repeated.",
    ),
    click.option("--threads", type=click.IntRange(min=1), help="Threads per model [cores]."),
    click.option(
        "--cache-dir",
        type=click.Path(path_type=Path, file_okay=False),
        metavar="DIR",
        help="Keep prepared graphs here, for later loads and for processes to share.",
    ),
]
_SAMPLING = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty", "seed")
_STREAM = (
    *(
        "mode",
        "gamma",
        "policy",
        "gate",
        "gate_temperature",
        "tail",
        "draft_tokens",
        "max_new_tokens",
        "stop",
        "system_prompt",
        "control_tokens",
    ),
    "speculation",
)


def answer_options(command: Command) -> Command:
    """Decorate a command with every option about how an answer is made."""
    return _decorated(command, [*_OPTIONS, *_TEXT_OPTIONS, *_PROVIDER_OPTIONS])


def writing_options(command: Command) -> Command:
    """Decorate a command with the same, but for prompts and ends that something else decides."""
    return _decorated(command, [*_OPTIONS, *_PROVIDER_OPTIONS])


def provider_options(command: Command) -> Command:
    """Decorate a command with the options about what the models run on; `load` reads them."""
    return _decorated(command, _PROVIDER_OPTIONS)


def _decorated(command: Command, options: Sequence[Callable[[Command], Command]]) -> Command:
    for option in reversed(options):
        command = option(command)
    return command


colour_option = click.option(
    "--colour",
    "--color",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    show_default=True,
    help="Colour the nudging model's words; auto: on a terminal, unless NO_COLOR is set.",
)
"""Whether the nudging model's words are coloured, of commands that show them."""

cache_option = click.option(
    "--cache-mib",
    type=click.IntRange(min=0),
    default=CACHE_MIB,
    show_default=True,
    help="Most MiB of KV caches; answers beyond them wait.",
)
"""Memory of caches, of commands that write several answers at a time."""


def load(folder: Path, options: dict[str, Any], **more: Any) -> NudgedLM:
    """Open the bundle with the options about providers, threads and the cache folder; `more` are `NudgedLM.load`'s."""
    from nudge_onnx.runtime.lm import NudgedLM

    return NudgedLM.load(folder, **load_arguments(options), **more)


def load_arguments(options: dict[str, Any]) -> dict[str, Any]:
    """The keyword arguments of `NudgedLM.load` among a command's options."""
    return {
        "providers": _providers(options["providers"] or ("cpu",), options["provider_options"]),
        "threads": options["threads"],
        "cache_dir": options["cache_dir"],
    }


def _providers(names: Sequence[str], options: Sequence[tuple[str, str, str]]) -> list[tuple[str, dict[str, str]]]:
    own: dict[str, dict[str, str]] = {name.lower(): {} for name in names}
    for provider, key, value in options:
        if provider not in own:
            raise click.UsageError(f"--provider-option is about {provider}, and --provider names {', '.join(own)}")
        own[provider][key] = value
    return [(name, own[name.lower()]) for name in names]


def stream_arguments(options: dict[str, Any]) -> dict[str, Any]:
    """The keyword arguments of `NudgedLM.stream` among a command's options."""
    from nudge_onnx.runtime.choosing.sampling import Sampling

    arguments = {name: options[name] for name in _STREAM if name in options}
    return {**arguments, "sampling": Sampling(**{name: options[name] for name in _SAMPLING})}


def painter(colour: str) -> Callable[[Piece], str]:
    """What shows a piece: its text, coloured where it is the nudging model's and colour is wanted."""
    paint = wants_colour(colour)

    def show(piece: Piece) -> str:
        return click.style(piece.text, fg="yellow") if paint and piece.source == "nudge" else piece.text

    return show
