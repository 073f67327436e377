"""What a caller may ask of an answer, checked before anything is read."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from nudge_onnx.arguments import integer, must_be, number, one_of
from nudge_onnx.bundle import Manifest
from nudge_onnx.errors import NudgeError

from .choosing.gates import Gate, resolve_gate
from .choosing.sampling import Sampling, fresh_seed
from .nudging.speculation import SpeculationMode
from .text.prompt import unicode_text

__all__ = ["ROLES_OF_MODE", "AnswerOptions", "Mode"]

Mode: TypeAlias = Literal["nudged", "base", "nudge", "ensemble", "proxy-tuning"]

ROLES_OF_MODE: dict[str, tuple[str, ...]] = {
    "nudged": ("base", "nudge"),
    "base": ("base",),
    "nudge": ("nudge",),
    "ensemble": ("base", "nudge"),
    "proxy-tuning": ("base", "nudge", "proxy_base"),
}
"""The roles that take part in an answer, by mode."""

_MAX_NEW_TOKENS = 256
# A row of logits of a large vocabulary takes a megabyte, and each guess is a row.
_MOST_AHEAD = 256


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
        max_new_tokens: int | None,
        stop: str | Sequence[str] | None,
        mode: Mode,
        speculation: SpeculationMode,
        sampling: Sampling | None,
        nudge_sampling: Sampling | None,
    ) -> AnswerOptions:
        """What `NudgedLM.stream` was asked for, with the bundle's defaults where nothing was said.

        Raises `NudgeError` for what is of no good type or out of range, or not to be had with this bundle.
        """
        defaults = manifest.defaults
        policy = one_of("policy", defaults.policy if policy is None else policy, ("word", "token"))
        one_of("mode", mode, get_args(Mode))
        _check_possible(manifest, policy, mode)
        return cls(
            number("gamma", defaults.gamma if gamma is None else gamma, 0, 1),
            policy,
            resolve_gate(defaults.gate if gate is None else gate),
            integer("draft_tokens", defaults.draft_tokens if draft_tokens is None else draft_tokens, 1),
            integer("max_new_tokens", _MAX_NEW_TOKENS if max_new_tokens is None else max_new_tokens, 1),
            _stops(stop),
            mode,
            _ahead(speculation),
            _samplings(sampling, nudge_sampling),
        )


def _stops(stop: str | Sequence[str] | None) -> tuple[str, ...]:
    what = "a text, a list of texts, or None"
    if stop is None:
        return ()
    if isinstance(stop, str):
        stop = (stop,)
    if not isinstance(stop, Sequence | Set) or isinstance(stop, bytes | bytearray | memoryview):
        raise must_be("stop", what, stop)
    for one in stop:
        if not isinstance(one, str):
            raise must_be("stop", what, one)
    stops = tuple(unicode_text(one, "a stop string") for one in stop)
    if not all(stops):
        raise must_be("stop", "texts that are not empty", stop)
    return stops


def _ahead(speculation: Any) -> SpeculationMode:
    if isinstance(speculation, str) and speculation in ("auto", "off"):
        return "auto" if speculation == "auto" else "off"
    try:
        return integer("speculation", speculation, 0, _MOST_AHEAD) or "off"
    except NudgeError:
        what = f"'auto', 'off', or a number of tokens between 0 and {_MOST_AHEAD}"
        raise must_be("speculation", what, speculation) from None


def _samplings(sampling: Sampling | None, nudge_sampling: Sampling | None) -> dict[str, Sampling]:
    for name, one in (("sampling", sampling), ("nudge_sampling", nudge_sampling)):
        if one is not None and not isinstance(one, Sampling):
            raise must_be(name, "a Sampling or None", one)
    base = sampling or Sampling()
    nudge = nudge_sampling or base
    # Drawn once: models that share a vocabulary share the noise.
    seed = fresh_seed()
    return {"base": base.with_seed(seed), "nudge": nudge.with_seed(seed)}


def _check_possible(manifest: Manifest, policy: str, mode: Mode) -> None:
    if not manifest.shared_vocabulary and (policy == "token" or mode in ("ensemble", "proxy-tuning")):
        what = "policy 'token'" if policy == "token" else f"mode {mode!r}"
        raise NudgeError(f"{what} needs two models with one vocabulary, and those of this bundle differ")
    if mode == "proxy-tuning" and "proxy_base" not in manifest.models:
        raise NudgeError("mode 'proxy-tuning' needs a bundle that was exported with --proxy-base")
