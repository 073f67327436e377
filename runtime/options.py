"""What a caller may ask of an answer, checked before anything is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from nudge_onnx.bundle import Manifest
from nudge_onnx.errors import NudgeError

from .gates import Gate, resolve_gate
from .prompt import unicode_text
from .sampling import Sampling
from .speculation import SpeculationMode

__all__ = ["VOICES", "AnswerOptions", "Mode"]

Mode: TypeAlias = Literal["nudged", "base", "nudge", "ensemble", "proxy-tuning"]

VOICES: dict[str, tuple[str, ...]] = {
    "nudged": ("base", "nudge"),
    "base": ("base",),
    "nudge": ("nudge",),
    "ensemble": ("base", "nudge"),
    "proxy-tuning": ("base", "nudge", "proxy_base"),
}
"""The roles that take part in an answer, by mode."""


@dataclass(frozen=True)
class AnswerOptions:
    """How an answer is made; nothing is left open any more."""

    gamma: float
    policy: str
    gate: Gate
    draft_tokens: int
    max_new_tokens: int
    stops: tuple[str, ...]
    mode: Mode
    speculation: SpeculationMode
    sampling: dict[str, Sampling]
    """By role."""

    @classmethod
    def of(
        cls,
        manifest: Manifest,
        *,
        gamma: float | None,
        policy: str | None,
        gate: str | Gate | None,
        draft_tokens: int | None,
        max_new_tokens: int,
        stop: str | Sequence[str],
        mode: Mode,
        speculation: SpeculationMode,
        sampling: Sampling | None,
        nudge_sampling: Sampling | None,
    ) -> AnswerOptions:
        """What `NudgedLM.stream` was asked for, with the bundle's defaults where nothing was said.

        Raises `NudgeError` for what is out of range, or not to be had with this bundle.
        """
        defaults = manifest.defaults
        gamma = defaults.gamma if gamma is None else gamma
        policy = policy or defaults.policy
        draft_tokens = defaults.draft_tokens if draft_tokens is None else draft_tokens
        stops = (stop,) if isinstance(stop, str) else tuple(stop)
        if not 0 <= gamma <= 1:
            raise NudgeError(f"gamma must be between 0 and 1, not {gamma}")
        if policy not in ("word", "token"):
            raise NudgeError(f"unknown policy {policy!r}; use 'word' or 'token'")
        if draft_tokens < 1 or max_new_tokens < 1:
            raise NudgeError("draft_tokens and max_new_tokens must be 1 or more")
        if not all(stops):
            raise NudgeError("a stop string must not be empty")
        for text in stops:
            unicode_text(text, "a stop string")
        if mode not in VOICES:
            raise NudgeError(f"unknown mode {mode!r}; use one of {', '.join(get_args(Mode))}")
        _check_possible(manifest, policy, mode)
        sampling = sampling or Sampling()
        return cls(
            gamma,
            policy,
            resolve_gate(gate or defaults.gate),
            draft_tokens,
            max_new_tokens,
            stops,
            mode,
            speculation,
            {"base": sampling, "nudge": nudge_sampling or sampling},
        )


def _check_possible(manifest: Manifest, policy: str, mode: Mode) -> None:
    if not manifest.shared_vocabulary and (policy == "token" or mode in ("ensemble", "proxy-tuning")):
        what = "policy 'token'" if policy == "token" else f"mode {mode!r}"
        raise NudgeError(f"{what} needs two models with one vocabulary, and those of this bundle differ")
    if mode == "proxy-tuning" and "proxy_base" not in manifest.models:
        raise NudgeError("mode 'proxy-tuning' needs a bundle that was exported with --proxy-base")
