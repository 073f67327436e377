"""`POST /v1/chat/completions`."""

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
from .choices import Choices, ending, finish_reason, origin, prepare, stream_events, write_whole
from .events import DONE, event
from .fields import (
    AnswerFields,
    JsonFormat,
    LogitBias,
    Stops,
    StreamFields,
    Strict,
    TextFormat,
    as_message,
    grammar_of,
    options_of,
)
from .logprobs import chat_logprobs
from .requests import engine_of, read_body, settle_mode
from .usage import prompt_tokens, usage

__all__ = ["ChatBody", "MessageBody", "chat_completions"]


class TextPart(Strict):
    """A part of a message."""

    type: Literal["text"]
    text: str


class MessageBody(Strict):
    """A message of a conversation; `developer` is another word for `system`."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart] = ""

    @model_validator(mode="after")
    def _has_content(self) -> MessageBody:
        if self.role != "assistant" and self.content == "":
            raise ValueError(f"a message of role {self.role} has no content")
        return self

    def message(self) -> dict[str, str]:
        """As the runtime reads it."""
        content = self.content
        return as_message(self.role, [content] if isinstance(content, str) else [part.text for part in content])


class SchemaFields(Strict):
    """A JSON schema that the answer is held to, whether `strict` or not."""

    name: str = Field(max_length=64)
    description: str | None = None
    json_schema: dict[str, Any] = Field(default_factory=dict, alias="schema")
    strict: bool = True


class SchemaFormat(Strict):
    """JSON that a schema admits."""

    type: Literal["json_schema"]
    json_schema: SchemaFields


class ChatBody(AnswerFields):
    """What a client sends."""

    messages: Annotated[list[MessageBody], Field(min_length=1)]
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    n: int = Field(1, ge=1, le=128)
    stop: Stops | None = None
    logprobs: bool = False
    top_logprobs: int | None = Field(None, ge=0, le=20)
    logit_bias: LogitBias | None = None
    response_format: Annotated[TextFormat | JsonFormat | SchemaFormat, Field(discriminator="type")] | None = None
    stream_options: StreamFields | None = None
    store: Literal[False] = False
    tools: Annotated[list[Any], Field(max_length=0)] | None = None
    tool_choice: Literal["none", "auto"] | None = None
    parallel_tool_calls: bool | None = Field(None, description="Accepted: there are no tools.")

    @model_validator(mode="after")
    def _agree(self) -> ChatBody:
        if self.max_tokens is not None and self.max_completion_tokens not in (None, self.max_tokens):
            raise ValueError("max_tokens and max_completion_tokens differ; send one of them")
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs to be true")
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options needs stream to be true")
        return self

    @property
    def most(self) -> int | None:
        """Most tokens of the answer, where the client says."""
        return self.max_completion_tokens if self.max_tokens is None else self.max_tokens


async def chat_completions(request: Request) -> Response:
    """Answer a conversation."""
    body = await read_body(request, ChatBody)
    settle_mode(request, body)
    engine = engine_of(request)
    streams = await prepare(request, lambda: _asked(body, engine.settings.max_tokens), body.n)
    head = {"id": f"chatcmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": body.model}
    tokenizers = engine.lm.tokenizers
    read = prompt_tokens(streams[:1])
    if body.stream:
        return await stream_events(request, lambda choices: _chunks(choices, body, head, read, tokenizers), streams)
    writings = await write_whole(request, streams)
    found = []
    for index, writing in enumerate(writings):
        choice = {
            "index": index,
            "message": {"role": "assistant", "content": writing.answer.text, "refusal": None},
            "logprobs": _logprobs(writing, tokenizers) if body.logprobs else None,
            "finish_reason": finish_reason(writing),
            "nudge": ending(writing, pieces=body.nudge.pieces),
        }
        found.append(choice)
    return JSONResponse({**head, "object": "chat.completion", "choices": found, "usage": usage(read, writings)})


def _asked(body: ChatBody, most: int) -> Sequence[tuple[PromptLike, StreamOptions]]:
    wanted = body.response_format
    schema = wanted.json_schema.json_schema if isinstance(wanted, SchemaFormat) else None
    grammar = grammar_of(body.nudge, schema, isinstance(wanted, JsonFormat))
    messages = [message.message() for message in body.messages]

    def options(choice: int) -> StreamOptions:
        return options_of(
            body,
            choice=choice,
            most=body.most or most,
            stop=body.stop,
            logit_bias=body.logit_bias,
            logprobs=(body.top_logprobs or 0) if body.logprobs else None,
            grammar=grammar,
            control_tokens="escape",
        )

    return [(messages, options(choice)) for choice in range(body.n)]


def _logprobs(writing: Writing, tokenizers: Any) -> dict[str, Any]:
    content = [one for piece in writing.answer.pieces for one in chat_logprobs(piece, tokenizers)]
    return {"content": content, "refusal": None}


async def _chunks(
    choices: Choices, body: ChatBody, head: dict[str, Any], read: int, tokenizers: Any
) -> AsyncGenerator[bytes, None]:
    wants_usage = body.stream_options is not None and body.stream_options.include_usage
    rest = {**head, "object": "chat.completion.chunk"}

    def chunk(index: int, delta: dict[str, Any], **more: Any) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": None, **more}
        return event({**rest, "choices": [choice], **({"usage": None} if wants_usage else {})})

    for index in range(body.n):
        yield chunk(index, {"role": "assistant", "content": ""})
    async for index, piece in choices:
        if piece is not None:
            found = {"content": chat_logprobs(piece, tokenizers), "refusal": None} if body.logprobs else None
            yield chunk(index, {"content": piece.text}, logprobs=found, nudge=origin(piece))
        else:
            writing = choices.writings[index]
            yield chunk(index, {}, finish_reason=finish_reason(writing), nudge=ending(writing))
    if wants_usage:
        writings = [choices.writings[index] for index in range(body.n)]
        yield event({**rest, "choices": [], "usage": usage(read, writings)})
    yield DONE
