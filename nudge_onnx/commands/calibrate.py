"""`nudge-onnx calibrate`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from nudge_onnx.batch_files import BadLine, read_lines
from nudge_onnx.choices import GateName, Tail
from nudge_onnx.commands.options import bundle_argument, load, provider_options
from nudge_onnx.commands.rate import Rate
from nudge_onnx.console import as_json, write
from nudge_onnx.errors import NudgeError
from nudge_onnx.files import check_writable
from nudge_onnx.limits import MOST_SLOTS, SLOTS

if TYPE_CHECKING:
    from nudge_onnx.calibration.reliability import Reliability
    from nudge_onnx.calibration.sweep import Prompt, Setting
    from nudge_onnx.calibration.temperature import Fitted

__all__ = ["command"]

# Greedy answers are what is measured, and there this gate never asks the nudging model.
_GATES = tuple(name for name in get_args(GateName) if name != "budget")
_GAMMAS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8)


@click.command("calibrate")
@bundle_argument
@click.argument("prompts", metavar="PROMPTS.JSONL", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--gamma", "gammas", type=click.FloatRange(0, 1), multiple=True, default=_GAMMAS, show_default=True)
@click.option("--gate", "gates", type=click.Choice(_GATES), multiple=True, default=("top1",), show_default=True)
@click.option(
    "--tail",
    type=click.Choice(get_args(Tail)),
    default="draft",
    show_default=True,
    help="Where drafts may end answers.",
)
@click.option(
    "--fit-temperature", is_flag=True, help="Fit a temperature for the gate on the prompts' texts, and use it."
)
@click.option("--ratio", type=click.FloatRange(0, 1), help="Suggest a gamma for this share of nudging tokens.")
@click.option(
    "--speed", type=click.FloatRange(0, min_open=True), help="Suggest one that makes so many tokens per second."
)
@click.option("--budget", type=click.FloatRange(0), help="Suggest one with at most so many nudging tokens an answer.")
@click.option(
    "--max-new-tokens", type=click.IntRange(1), default=128, show_default=True, help="Most tokens of an answer."
)
@click.option(
    "--at-once", type=click.IntRange(1, MOST_SLOTS), default=SLOTS, show_default=True, help="Answers written at a time."
)
@click.option(
    "--plot", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE.PNG", help="Draw the figures, too."
)
@click.option("--apply", "apply_wanted", is_flag=True, help="Make what is suggested the bundle's default.")
@click.option("--json", "json_wanted", is_flag=True, help="Print the figures as JSON.")
@provider_options
def command(
    folder: Path,
    prompts: Path,
    gammas: Sequence[float],
    gates: Sequence[GateName],
    tail: Tail,
    fit_temperature: bool,
    ratio: float | None,
    speed: float | None,
    budget: float | None,
    max_new_tokens: int,
    at_once: int,
    plot: Path | None,
    apply_wanted: bool,
    json_wanted: bool,
    **options: Any,
) -> None:
    """Measure what gamma does on prompts of your own, and choose one for the bundle DIR.

    Each line of PROMPTS.JSONL is an object with "prompt" (a text) or "messages", and if wanted "answer", a reference
    text: answers are compared with it by its last number, its letter, or as a whole.

    For each gate and gamma the table has the share of nudging tokens, how many an answer has, tokens per second, the
    share of answers that ended by themselves, and how many agree. With it comes how well the base model's top-1
    probability is calibrated on the texts of the prompts and references.
    """
    wanted = [name for name, value in (("ratio", ratio), ("speed", speed), ("budget", budget)) if value is not None]
    if len(wanted) > 1:
        raise click.UsageError(f"--{wanted[0]} and --{wanted[1]} ask for different things; give one of them")
    if apply_wanted and not wanted:
        raise click.UsageError("--apply needs --ratio, --speed or --budget, to know what to apply")
    if fit_temperature and "bet" in gates:
        raise click.UsageError("--gate bet compares two models and has no temperature; leave out --fit-temperature")
    if plot is not None:
        check_writable(plot)
    asked = _prompts(prompts)
    from nudge_onnx.calibration.apply import apply
    from nudge_onnx.calibration.plot import draw
    from nudge_onnx.calibration.reliability import reliability
    from nudge_onnx.calibration.sweep import measured
    from nudge_onnx.calibration.temperature import fit_temperature as fitted_on

    with load(folder, options, slots=at_once) as lm:
        fitted = fitted_on(lm, _texts(asked)) if fit_temperature else None
        known = fitted.plain_reliability if fitted else reliability(lm, _texts(asked))
        temperature = fitted.temperature if fitted else 1.0

        def run(settings: Sequence[tuple[GateName, float]]) -> list[Setting]:
            with Rate(len(settings) * len(asked), 0) as rate:
                arguments = {"max_new_tokens": max_new_tokens}
                return list(
                    measured(
                        lm,
                        asked,
                        settings,
                        arguments,
                        gate_temperature=temperature,
                        tail=tail,
                        progress=lambda one: rate.add(sum(one.tokens.values())),
                    )
                )

        found = run([(gate, gamma) for gate in gates for gamma in sorted(set(gammas))])
        chosen, tried = _suggested(found, gates[0], ratio, speed, budget, run)
    settings = sorted({(one.gate, one.gamma): one for one in (*found, *tried)}.values(), key=_order)
    if plot is not None:
        draw(plot, settings, known, chosen)
    if apply_wanted and chosen is not None:
        apply(folder, chosen)
    if json_wanted:
        figures = [one.to_dict() for one in settings]
        picked = None if chosen is None else chosen.to_dict()
        fit = None if fitted is None else asdict(fitted)
        if fit is not None:
            del fit["plain_reliability"]  # which is "reliability" beside it
        write(as_json({"settings": figures, "suggested": picked, "reliability": vars(known), "fitted": fit}))
    else:
        write("\n".join([*_lines(settings, chosen, known, asked=bool(wanted)), *_fitted_lines(fitted)]) + "\n")
    if apply_wanted:
        said = (
            "nothing was applied" if chosen is None else f"gate {chosen.gate}, gamma {chosen.gamma:g}: now the default"
        )
        click.echo(f"{folder}: {said}", err=True)


def _prompts(path: Path) -> list[Prompt]:
    from nudge_onnx.calibration.sweep import Prompt

    found = []
    for line in read_lines(path, more=("answer",)):
        if isinstance(line, BadLine):
            raise NudgeError(f"{path}: {line.reason}")
        reference = line.more.get("answer")
        if reference is not None and not isinstance(reference, str):
            raise NudgeError(f"{path}: answer must be a text, in the line of {line.id!r}")
        if line.options:
            raise NudgeError(f"{path}: options have no place in a calibration, in the line of {line.id!r}")
        found.append(Prompt(line.prompt, reference))
    if not found:
        raise NudgeError(f"{path} has no prompt")
    return found


def _texts(prompts: Sequence[Prompt]) -> list[str]:
    """What people wrote: the last message of each prompt, and the references."""
    asked = [one.prompt if isinstance(one.prompt, str) else one.prompt[-1]["content"] for one in prompts]  # type: ignore[index]
    return [*asked, *(one.reference for one in prompts if one.reference)]


def _suggested(
    found: Sequence[Setting],
    gate: GateName,
    ratio: float | None,
    speed: float | None,
    budget: float | None,
    run: Callable[[Sequence[tuple[GateName, float]]], list[Setting]],
) -> tuple[Setting | None, list[Setting]]:
    """What is suggested, and what else was tried to find it."""
    from nudge_onnx.calibration.suggest import for_budget, for_ratio, for_speed

    if budget is not None:
        return for_budget(found, budget), []
    if speed is not None:
        return for_speed(found, speed), []
    if ratio is None:
        return None, []
    tried: list[Setting] = []

    def measure(gamma: float) -> Setting:
        (setting,) = run([(gate, gamma)])
        tried.append(setting)
        return setting

    return for_ratio([one for one in found if one.gate == gate], ratio, measure), tried


def _order(setting: Setting) -> tuple[str, float]:
    return setting.gate, setting.gamma


def _lines(settings: Sequence[Setting], chosen: Setting | None, known: Reliability, *, asked: bool) -> list[str]:
    agreement = any(one.agreement is not None for one in settings)
    lines = [
        f"{'gate':<8} {'gamma':>6} {'nudging':>8} {'tokens':>7} {'tokens/s':>9} {'ended':>6}"
        + (" agree" if agreement else "")
    ]
    for one in settings:
        mark = "  <- suggested" if one == chosen else ""
        agrees = f" {one.agreement:>5.0%}" if one.agreement is not None else ""
        lines.append(
            f"{one.gate:<8} {one.gamma:>6.3g} {one.nudging_ratio:>8.1%} {one.nudging_tokens:>7.1f} "
            f"{one.tokens_per_second:>9.1f} {one.ended:>6.0%}"
            f"{agrees}{mark}"
        )
    if asked and chosen is None:
        lines.append("nothing that was tried comes to what was asked for")
    lines.append("")
    lines.append(
        f"top-1 probability of the base model on {known.tokens} tokens of the prompts: "
        f"calibration error {known.error:.3f}"
    )
    for count, confidence, accuracy in zip(known.counts, known.confidence, known.accuracy, strict=True):
        if count:
            lines.append(f"  says {confidence:>4.0%}, is right {accuracy:>4.0%}  ({count} tokens)")
    return lines


def _fitted_lines(fitted: Fitted | None) -> list[str]:
    if fitted is None:
        return []
    return [
        f"gate temperature {fitted.temperature:g}, fitted on the same tokens: calibration error "
        f"{fitted.reliability.error:.3f}, mean negative log-likelihood {fitted.likelihood:.3f} instead of "
        f"{fitted.plain_likelihood:.3f}"
    ]
