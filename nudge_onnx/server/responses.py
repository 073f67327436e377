"""`POST /v1/responses`, without a memory: every request holds its whole conversation."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from nudge_onnx.runtime.lm import PromptLike
from nudge_onnx.runtime.options import StreamOptions

from .answers import Writing
from .choices import Choices, ending, origin, prepare, stream_events, write_whole
from .events import event
from .fields import AnswerFields, JsonFormat, Strict, TextFormat, as_message, grammar_of, options_of
from .requests import engine_of, read_body, settle_mode
from .usage import prompt_tokens, usage

__all__ = ["ResponseBody", "responses"]


class InputPart(Strict):
    """A part of a message; parts of earlier answers come back as they were given."""

    type: Literal["input_text", "output_text"]
    text: str
    annotations: Annotated[list[Any], Field(max_length=0)] | None = None
    logprobs: Annotated[list[Any], Field(max_length=0)] | None = None


class InputMessage(Strict):
    """A message of the conversation."""

    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[InputPart]
    id: str | None = None
    status: Literal["completed", "incomplete"] | None = None

    def message(self) -> dict[str, str]:
        """As the runtime reads it."""
        content = self.content
        return as_message(self.role, [content] if isinstance(content, str) else [part.text for part in content])


class SchemaFormat(Strict):
    """JSON that a schema admits."""

    type: Literal["json_schema"]
    name: str = Field(max_length=64)
    description: str | None = None
    json_schema: dict[str, Any] = Field(alias="schema")
    strict: bool = True


class TextFields(Strict):
    """What the answer looks like."""

    format: Annotated[TextFormat | JsonFormat | SchemaFormat, Field(discriminator="type")] | None = None


class ResponseBody(AnswerFields):
    """What a client sends."""

    input: str | Annotated[list[InputMessage], Field(min_length=1)]
    instructions: str | None = None
    max_output_tokens: int | None = Field(None, ge=1)
    text: TextFields = Field(default_factory=TextFields)
    store: Literal[False] = False
    background: Literal[False] = False
    truncation: Literal["disabled"] = "disabled"
    tools: Annotated[list[Any], Field(max_length=0)] | None = None
    tool_choice: Literal["none", "auto"] | None = None
    parallel_tool_calls: bool | None = Field(None, description="Accepted: there are no tools.")
    metadata: dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]] = Field(
        default_factory=dict, max_length=16, description="Given back with the response."
    )

    @model_validator(mode="after")
    def _has_text(self) -> ResponseBody:
        if self.input == "":
            raise ValueError("the input is empty")
        return self

    @property
    def messages(self) -> list[dict[str, str]]:
        """The conversation, behind its instructions."""
        own = (
            [{"role": "user", "content": self.input}]
            if isinstance(self.input, str)
            else [message.message() for message in self.input]
        )
        return [{"role": "system", "content": self.instructions}, *own] if self.instructions else own


async def responses(request: Request) -> Response:
    """Answer a conversation."""
    body = await read_body(request, ResponseBody)
    settle_mode(request, body)
    engine = engine_of(request)
    streams = await prepare(request, lambda: [_asked(body, engine.settings.max_tokens)], 1)
    record = _Record(body, prompt_tokens(streams))
    if body.stream:
        return await stream_events(request, lambda choices: _events(choices, record), streams)
    (writing,) = await write_whole(request, streams)
    return JSONResponse(record.ended(writing))


def _asked(body: ResponseBody, most: int) -> tuple[PromptLike, StreamOptions]:
    wanted = body.text.format
    schema = wanted.json_schema if isinstance(wanted, SchemaFormat) else None
    options = options_of(
        body,
        choice=0,
        most=body.max_output_tokens or most,
        stop=None,
        logit_bias=None,
        logprobs=None,
        grammar=grammar_of(body.nudge, schema, isinstance(wanted, JsonFormat)),
        control_tokens="escape",
    )
    return body.messages, options


class _Record:
    """The response as its client sees it, at its beginning and at its end."""

    def __init__(self, body: ResponseBody, read: int) -> None:
        self._body, self._read = body, read
        self.message_id = f"msg_{secrets.token_hex(12)}"
        self._head: dict[str, Any] = {
            "id": f"resp_{secrets.token_hex(12)}",
            "object": "response",
            "created_at": int(time.time()),
            "model": body.model,
            "instructions": body.instructions,
            "max_output_tokens": body.max_output_tokens,
            "metadata": body.metadata,
            "parallel_tool_calls": False,
            "previous_response_id": None,
            "store": False,
            "temperature": body.temperature,
            "text": {"format": _format(body)},
            "tool_choice": "none",
            "tools": [],
            "top_p": body.top_p,
            "truncation": "disabled",
            "user": body.user,
        }

    def begun(self) -> dict[str, Any]:
        """Before anything is written."""
        return self._as("in_progress", [], None)

    def item(self, text: str, status: str) -> dict[str, Any]:
        """The answer as a message."""
        content = [] if status == "in_progress" else [_part(text)]
        return {"id": self.message_id, "type": "message", "status": status, "role": "assistant", "content": content}

    def ended(self, writing: Writing) -> dict[str, Any]:
        """Once it is written."""
        whole = writing.answer.finish_reason in ("stop", "repetition")
        status = "completed" if whole else "incomplete"
        counts = usage(self._read, [writing])
        found = self._as(status, [self.item(writing.answer.text, status)], None if whole else "max_output_tokens")
        found["usage"] = {
            "input_tokens": counts["prompt_tokens"],
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": counts["completion_tokens"],
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": counts["total_tokens"],
        }
        found["nudge"] = ending(writing, pieces=self._body.nudge.pieces)
        return found

    def _as(self, status: str, output: Sequence[Any], reason: str | None) -> dict[str, Any]:
        details = None if reason is None else {"reason": reason}
        return {
            **self._head,
            "status": status,
            "error": None,
            "incomplete_details": details,
            "output": output,
            "usage": None,
        }


async def _events(choices: Choices, record: _Record) -> AsyncGenerator[bytes, None]:
    number = 0

    def named(kind: str, **data: Any) -> bytes:
        nonlocal number
        number += 1
        return event({"type": kind, "sequence_number": number - 1, **data}, kind)

    at = {"item_id": record.message_id, "output_index": 0, "content_index": 0}
    yield named("response.created", response=record.begun())
    yield named("response.in_progress", response=record.begun())
    yield named("response.output_item.added", output_index=0, item=record.item("", "in_progress"))
    yield named("response.content_part.added", **at, part=_part(""))
    async for _, piece in choices:
        if piece is not None:
            yield named("response.output_text.delta", **at, delta=piece.text, logprobs=[], nudge=origin(piece))
    ended = record.ended(choices.writings[0])
    text = choices.writings[0].answer.text
    yield named("response.output_text.done", **at, text=text, logprobs=[])
    yield named("response.content_part.done", **at, part=_part(text))
    yield named("response.output_item.done", output_index=0, item=ended["output"][0])
    yield named(f"response.{ended['status']}", response=ended)


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _format(body: ResponseBody) -> dict[str, Any]:
    found = body.text.format
    return {"type": "text"} if found is None else found.model_dump(by_alias=True, exclude_none=True)
