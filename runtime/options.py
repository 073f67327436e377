"""What a caller may ask of an answer, checked before anything is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, fields
from typing import Any, TypedDict, get_args

from nudge_onnx.arguments import integer, must_be, number, one_of
from nudge_onnx.bundle import Defaults, Manifest
from nudge_onnx.choices import ControlTokens, GateName, Mode, Policy, ReadAhead, Tail
from nudge_onnx.errors import NudgeError

from .choosing.bias import checked_bias
from .choosing.gates import Gate, resolve_gate
from .choosing.grammar import Grammar
from .choosing.logprobs import MOST_LOGPROBS
from .choosing.sampling import Sampling, fresh_seed
from .nudging.speculation import SpeculationMode
from .text.prompt import unicode_text

__all__ = ["ROLES_OF_MODE", "AnswerOptions", "StreamOptions"]

ROLES_OF_MODE: dict[Mode, tuple[str, ...]] = {
    "nudged": ("base", "nudge"),
    "base": ("base",),
    "nudge": ("nudge",),
    "ensemble": ("base", "nudge"),
    "proxy-tuning": ("base", "nudge", "proxy_base"),
}
"""The roles that take part in an answer, by mode."""

# A row of logits of a large vocabulary takes a megabyte, and each guess is a row.
_MOST_AHEAD = 256


class StreamOptions(TypedDict, total=False):
    """Keyword arguments of `NudgedLM.stream` and `NudgedLM.generate`; `None` is the same as none."""

    gamma: float | None
    """Nudge where the base model is less certain than this, from 0 to 1. By default the bundle's."""
    policy: Policy | None
    """Where the base model may take over: before a `word`, or before a `token`. By default the bundle's."""
    gate: GateName | Gate | None
    """What certainty means: `top1`, `margin`, `entropy`, `bet`, `budget`, or a callable (docs/gates.md). By default the
    bundle's."""
    gate_temperature: float | None
    """The gate alone reads probabilities of logits divided by this, 0.01 to 100. By default the bundle's."""
    tail: Tail | None
    """Whether an end of the nudging model counts anywhere in its `draft`, or only before the base model takes over
    (`lazy`). By default the bundle's."""
    draft_tokens: int | None
    """Most tokens of one draft. By default the bundle's."""
    max_new_tokens: int | None
    """Most tokens of the answer, 256 by default."""
    stop: str | Sequence[str] | None
    """The answer ends before the first of these texts."""
    mode: Mode
    """Both models (`nudged`, the default), `base` or `nudge` alone, or a baseline: `ensemble`, `proxy-tuning`."""
    speculation: SpeculationMode
    """What is read ahead: `auto`, `off`, a number of tokens up to 256, or `entropy`: as `auto`, but drafts that are
    written ahead end where the nudging model's entropy says so. It changes the speed and never the answer."""
    sampling: Sampling | None
    """How tokens are chosen, greedy by default."""
    nudge_sampling: Sampling | None
    """How the nudging model's are; by default as `sampling` says."""
    system_prompt: str | None
    """Instruction for both models, if the messages have none. By default the bundle's."""
    logprobs: int | None
    """Pieces say the log-probability of each token, and of so many of the most probable ones (up to 20). By default
    none. Not in the modes `ensemble` and `proxy-tuning`."""
    logit_bias: Mapping[int, float] | None
    """Add this to the logits of tokens, by id, from -100 to 100. Ids are the base model's, or of the only model that
    writes; for the other one they are those that write the same text. The gate does not see it."""
    grammar: Grammar | None
    """What the answer must look like, whoever writes it. Both models are held to it; the gate does not see it."""
    control_tokens: ControlTokens
    """What a message that spells a special token of a model does: `allow` (the default) makes it one, `refuse` is an
    error, and `escape` reads it as text."""


@dataclass(frozen=True, kw_only=True)
class AnswerOptions:
    """`StreamOptions` with nothing left open. Values are checked here, wherever they come from.

    Raises `NudgeError` for a value of another type or out of range.
    """

    gamma: float = Defaults.gamma
    policy: Policy = "word"
    gate: GateName | Gate = "top1"
    gate_temperature: float = 1.0
    tail: Tail = "draft"
    draft_tokens: int = Defaults.draft_tokens
    max_new_tokens: int = 256
    stop: str | Sequence[str] = ()
    mode: Mode = "nudged"
    speculation: SpeculationMode = "auto"
    sampling: Sampling = field(default_factory=Sampling)
    nudge_sampling: Sampling | None = None
    system_prompt: str | None = None
    logprobs: int | None = None
    logit_bias: Mapping[int, float] | None = None
    grammar: Grammar | None = None
    control_tokens: ControlTokens = "allow"

    def __post_init__(self) -> None:
        checked = {
            "gamma": number("gamma", self.gamma, 0, 1),
            "policy": one_of("policy", self.policy, get_args(Policy)),
            "gate_temperature": number("gate_temperature", self.gate_temperature, 0.01, 100),
            "tail": one_of("tail", self.tail, get_args(Tail)),
            "draft_tokens": integer("draft_tokens", self.draft_tokens, 1),
            "max_new_tokens": integer("max_new_tokens", self.max_new_tokens, 1),
            "stop": _stops(self.stop),
            "mode": one_of("mode", self.mode, get_args(Mode)),
            "speculation": _ahead(self.speculation),
            "control_tokens": one_of("control_tokens", self.control_tokens, get_args(ControlTokens)),
        }
        resolve_gate(self.gate)
        if self.logprobs is not None:
            checked["logprobs"] = integer("logprobs", self.logprobs, 0, MOST_LOGPROBS)
        if self.logit_bias is not None:
            checked["logit_bias"] = checked_bias(self.logit_bias) or None
        if self.grammar is not None and not isinstance(self.grammar, Grammar):
            raise must_be("grammar", "a Grammar or None", self.grammar)
        for name in ("sampling", "nudge_sampling"):
            value = getattr(self, name)
            if not isinstance(value, Sampling) and (value is not None or name == "sampling"):
                raise must_be(name, "a Sampling or None", value)
        if self.system_prompt is not None and not isinstance(self.system_prompt, str):
            raise must_be("system_prompt", "a text or None", self.system_prompt)
        # Drawn once: models that share a vocabulary share the noise.
        seed = fresh_seed()
        checked["sampling"] = self.sampling.with_seed(seed)
        checked["nudge_sampling"] = (self.nudge_sampling or self.sampling).with_seed(seed)
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @classmethod
    def of(cls, manifest: Manifest, asked: StreamOptions) -> AnswerOptions:
        """What was asked for, with the bundle's defaults where nothing was said.

        Raises `NudgeError` also for an option that there is none of, or that is not to be had with this bundle.
        """
        names = [known.name for known in fields(cls)]
        if unknown := [name for name in asked if name not in names]:
            raise NudgeError(f"there is no option {unknown[0]!r}, only {', '.join(names)}")
        defaults = manifest.defaults
        settled: dict[str, Any] = {
            "gamma": defaults.gamma,
            "policy": defaults.policy,
            "gate": defaults.gate,
            "gate_temperature": defaults.gate_temperature,
            "tail": defaults.tail,
            "draft_tokens": defaults.draft_tokens,
            "system_prompt": defaults.system_prompt or None,
        }
        # These have no "by default": None is a mistake.
        settled |= {name: value for name, value in asked.items() if value is not None or name in _NEVER_NONE}
        options = cls(**settled)
        options._check_possible(manifest)
        return options

    @property
    def gate_function(self) -> Gate:
        """The gate as it is called."""
        return resolve_gate(self.gate)

    @property
    def stops(self) -> tuple[str, ...]:
        """The texts before which the answer ends."""
        return _stops(self.stop)

    def sampling_of(self, role: str) -> Sampling:
        """How the tokens of a model are chosen."""
        return (self.nudge_sampling or self.sampling) if role == "nudge" else self.sampling

    def _check_possible(self, manifest: Manifest) -> None:
        if not manifest.shared_vocabulary and (self.policy == "token" or self.mode in ("ensemble", "proxy-tuning")):
            what = "policy 'token'" if self.policy == "token" else f"mode {self.mode!r}"
            raise NudgeError(f"{what} needs two models with one vocabulary, and those of this bundle differ")
        if self.mode == "nudged":
            if self.gate == "budget" and self.sampling.greedy:
                raise NudgeError(
                    "gate 'budget' asks how unlikely the token drawn is, and greedy decoding draws the likeliest; "
                    "set a temperature, or take another gate"
                )
            if self.gate == "bet" and self.gate_temperature != 1:
                raise NudgeError("gate 'bet' compares two models and has no gate_temperature; leave it at 1")
        if self.mode in ("ensemble", "proxy-tuning"):
            for name in ("logprobs", "logit_bias", "grammar"):
                if getattr(self, name) is not None:
                    raise NudgeError(f"mode {self.mode!r} has no {name}; use nudged, base or nudge")
        if self.mode == "proxy-tuning" and "proxy_base" not in manifest.models:
            raise NudgeError("mode 'proxy-tuning' needs a bundle that was exported with --proxy-base")


_NEVER_NONE = frozenset({"mode", "speculation", "control_tokens"})


def _stops(stop: Any) -> tuple[str, ...]:
    what = "a text, a list of texts, or None"
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
    names: tuple[ReadAhead, ...] = get_args(ReadAhead)
    for name in names:
        if isinstance(speculation, str) and speculation == name:
            return name
    try:
        return integer("speculation", speculation, 0, _MOST_AHEAD) or "off"
    except NudgeError:
        what = f"'auto', 'off', 'entropy', or a number of tokens between 0 and {_MOST_AHEAD}"
        raise must_be("speculation", what, speculation) from None
