"""What clients may send: the fields that the endpoints have in common.

A field that is not listed is refused by name. `null` is the same as a field that is not there, as in OpenAI's API.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from nudge_onnx.choices import ControlTokens, GateName, Mode, Policy, ReadAhead, Tail
from nudge_onnx.runtime.choosing.grammar import Grammar
from nudge_onnx.runtime.choosing.sampling import Sampling
from nudge_onnx.runtime.options import StreamOptions

from .errors import ApiError

__all__ = [
    "AnswerFields",
    "JsonFormat",
    "NudgeFields",
    "Strict",
    "TextFormat",
    "as_message",
    "grammar_of",
    "options_of",
]

_MOST_STOPS = 16
_SEEDS = 2**64


class Strict(BaseModel):
    """An object without unknown fields."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, data: Any) -> Any:
        return {name: value for name, value in data.items() if value is not None} if isinstance(data, dict) else data


class NudgeFields(Strict):
    """What this server has beyond OpenAI's API; by default as the bundle says."""

    gamma: float | None = Field(None, ge=0, le=1, description="Nudge where the base model is less certain than this.")
    mode: Mode | None = Field(None, description="Who writes: both models, one alone, or a baseline.")
    policy: Policy | None = Field(None, description="Where the base model may take over.")
    gate: GateName | None = Field(None, description="What certainty means.")
    gate_temperature: float | None = Field(None, ge=0.01, le=100, description="Divides the logits that the gate reads.")
    tail: Tail | None = Field(None, description="Where in a draft an end of the nudging model counts.")
    draft_tokens: int | None = Field(None, ge=1, le=256, description="Most tokens of one draft.")
    speculation: ReadAhead | Annotated[int, Field(ge=0, le=256)] = Field(
        "auto", description="What is read ahead; never changes an answer."
    )
    system_prompt: str | None = Field(None, description="Instruction for both models, if the messages have none.")
    control_tokens: ControlTokens | None = Field(
        None, description="What text that spells a control token does: by default messages escape, raw prompts allow."
    )
    regex: str | None = Field(None, max_length=10_000, description="A regular expression that the answer matches.")
    grammar: str | None = Field(None, max_length=100_000, description="A grammar in Lark's syntax for the answer.")
    pieces: bool = Field(False, description="Say of an answer that is not streamed who wrote what.")


class AnswerFields(Strict):
    """How an answer is written."""

    model: str
    stream: bool = False
    temperature: float = Field(0.0, ge=0, le=2, description="0, the default, is greedy.")
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=0, le=2**31 - 1)
    min_p: float = Field(0.0, ge=0, le=1)
    repetition_penalty: float = Field(1.0, ge=0.001, le=1000)
    presence_penalty: float = Field(0.0, ge=-2, le=2)
    frequency_penalty: float = Field(0.0, ge=-2, le=2)
    seed: int | None = Field(None, ge=-(2**63), lt=2**64)
    user: str | None = Field(None, max_length=512, description="Accepted, and used for nothing.")
    nudge: NudgeFields = NudgeFields()

    @property
    def mode(self) -> Mode:
        """Who writes."""
        return self.nudge.mode or "nudged"

    def sampling(self, choice: int) -> Sampling:
        """How the tokens of one of several choices are chosen; each has a seed of its own."""
        seed = None if self.seed is None else (self.seed + choice) % _SEEDS
        return Sampling(
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            seed=seed,
        )


class StreamFields(Strict):
    """What a stream ends with."""

    include_usage: bool = False


class TextFormat(Strict):
    """Any text."""

    type: Literal["text"]


class JsonFormat(Strict):
    """Any JSON object."""

    type: Literal["json_object"]


Stops = (
    Annotated[str, Field(min_length=1, max_length=1024)]
    | Annotated[list[Annotated[str, Field(min_length=1, max_length=1024)]], Field(max_length=_MOST_STOPS)]
)
LogitBias = dict[Annotated[str, Field(pattern="^[0-9]{1,9}$")], Annotated[float, Field(ge=-100, le=100)]]


def as_message(role: str, parts: Sequence[str]) -> dict[str, str]:
    """A message as the runtime reads it; `developer` is another word for `system`."""
    return {"role": "system" if role == "developer" else role, "content": "".join(parts)}


def options_of(
    fields: AnswerFields,
    *,
    choice: int,
    most: int,
    stop: str | list[str] | None,
    logit_bias: dict[str, float] | None,
    logprobs: int | None,
    grammar: Grammar | None,
    control_tokens: ControlTokens,
) -> StreamOptions:
    """What `NudgedLM.stream` is asked for."""
    nudge = fields.nudge
    return {
        "gamma": nudge.gamma,
        "mode": fields.mode,
        "policy": nudge.policy,
        "gate": nudge.gate,
        "gate_temperature": nudge.gate_temperature,
        "tail": nudge.tail,
        "draft_tokens": nudge.draft_tokens,
        "speculation": nudge.speculation,
        "system_prompt": nudge.system_prompt,
        "control_tokens": nudge.control_tokens or control_tokens,
        "sampling": fields.sampling(choice),
        "max_new_tokens": most,
        "stop": stop,
        "logit_bias": {int(token): value for token, value in (logit_bias or {}).items()} or None,
        "logprobs": logprobs,
        "grammar": grammar,
    }


def grammar_of(nudge: NudgeFields, schema: dict[str, Any] | bool | None, any_json: bool) -> Grammar | None:
    """The grammar that a request asks for. Raises `ApiError` for more than one, `NudgeError` for a bad one."""
    asked = [nudge.regex is not None, nudge.grammar is not None, schema is not None or any_json]
    if sum(asked) > 1:
        raise ApiError(400, "an answer has one format: a JSON schema, nudge.regex or nudge.grammar", param="nudge")
    if nudge.regex is not None:
        return Grammar.regex(nudge.regex)
    if nudge.grammar is not None:
        return Grammar.lark(nudge.grammar)
    if schema is not None:
        return Grammar.json_schema(schema)
    return Grammar.json() if any_json else None
