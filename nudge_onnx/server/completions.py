"""`POST /v1/completions`: texts gone on with as they stand, without a chat template."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from nudge_onnx.runtime.choosing.logprobs import TokenLogprobs
from nudge_onnx.runtime.lm import NudgedLM, PromptLike
from nudge_onnx.runtime.nudging.results import Piece
from nudge_onnx.runtime.options import ROLES_OF_MODE, StreamOptions
from nudge_onnx.runtime.text.prompt import RawPrompt

from .answers import Engine, Writing
from .choices import Choices, ending, finish_reason, origin, prepare, stream_events, write_whole
from .errors import ApiError
from .events import DONE, event
from .fields import AnswerFields, LogitBias, Stops, StreamFields, grammar_of, options_of
from .logprobs import completion_logprobs, known_of
from .requests import client_of, engine_of, read_body, settle_mode, while_connected
from .usage import prompt_tokens, usage

__all__ = ["CompletionBody", "completions"]

_MOST_PROMPTS = 128
_MOST_TOKENS = 16  # as OpenAI's API has it

Ids = Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Field(min_length=1)]
Texts = Annotated[list[str], Field(min_length=1, max_length=_MOST_PROMPTS)]
IdLists = Annotated[list[Ids], Field(min_length=1, max_length=_MOST_PROMPTS)]


class CompletionBody(AnswerFields):
    """What a client sends."""

    prompt: str | Texts | Ids | IdLists = Field(union_mode="smart")
    max_tokens: int = Field(_MOST_TOKENS, ge=0)
    n: int = Field(1, ge=1, le=128)
    best_of: int | None = None
    echo: bool = Field(False, description="Say the prompt, too.")
    stop: Stops | None = None
    logprobs: int | None = Field(None, ge=0, le=20)
    logit_bias: LogitBias | None = None
    stream_options: StreamFields | None = None
    suffix: Literal[""] | None = None

    @model_validator(mode="after")
    def _agree(self) -> CompletionBody:
        if self.best_of not in (None, self.n):
            raise ValueError("best_of other than n is not supported by this server")
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options needs stream to be true")
        if self.max_tokens == 0 and not self.echo:
            raise ValueError("max_tokens of 0 needs echo: there would be nothing to say")
        return self

    @property
    def prompts(self) -> list[RawPrompt]:
        """The prompts, one by one."""
        if isinstance(self.prompt, str):
            return [RawPrompt(self.prompt)]
        if isinstance(self.prompt[0], int):
            return [RawPrompt(ids=self.prompt)]
        return [RawPrompt(one) if isinstance(one, str) else RawPrompt(ids=one) for one in self.prompt]


@dataclass(frozen=True)
class _Echo:
    """A prompt, said again in front of its answer."""

    text: str = ""
    tokens: Sequence[tuple[int, TokenLogprobs | None]] = ()


async def completions(request: Request) -> Response:
    """Go on with each prompt, `n` times."""
    body = await read_body(request, CompletionBody)
    settle_mode(request, body)
    engine = engine_of(request)
    if body.echo and body.logprobs is not None and len(ROLES_OF_MODE[body.mode]) > 1:
        raise ApiError(
            400,
            "log-probabilities of a prompt (echo with logprobs) are those of one model; set nudge.mode to base or "
            f"nudge, or ask for the model {body.model}:base or {body.model}:nudge",
            param="logprobs",
        )
    prompts = body.prompts
    count = len(prompts) * body.n
    asked = prompts if body.max_tokens else []
    streams = await prepare(request, lambda: _asked(body, asked), count if asked else 0)
    echoes = await while_connected(request, _echoes(request, engine, body, prompts))
    head = {
        "id": f"cmpl-{secrets.token_hex(12)}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": body.model,
    }
    if not streams:
        return JSONResponse(_only_echoes(engine, body, head, echoes))
    read = prompt_tokens(streams[:: body.n])
    if body.stream:
        return await stream_events(request, lambda choices: _chunks(engine, choices, body, head, read, echoes), streams)
    writings = await write_whole(request, streams)
    found = [
        {
            "index": index,
            "text": echoes[index // body.n].text + writing.answer.text,
            "logprobs": _logprobs(engine, body, writing.answer.pieces, echoes[index // body.n]),
            "finish_reason": finish_reason(writing),
            "nudge": ending(writing, pieces=body.nudge.pieces),
        }
        for index, writing in enumerate(writings)
    ]
    return JSONResponse({**head, "choices": found, "usage": usage(read, writings)})


def _asked(body: CompletionBody, prompts: Sequence[RawPrompt]) -> list[tuple[PromptLike, StreamOptions]]:
    grammar = grammar_of(body.nudge, None, False)

    def options(choice: int) -> StreamOptions:
        return options_of(
            body,
            choice=choice,
            most=body.max_tokens,
            stop=body.stop,
            logit_bias=body.logit_bias,
            logprobs=body.logprobs,
            grammar=grammar,
            control_tokens="allow",
        )

    return [(prompt, options(choice)) for prompt in prompts for choice in range(body.n)]


async def _echoes(request: Request, engine: Engine, body: CompletionBody, prompts: Sequence[RawPrompt]) -> list[_Echo]:
    """What is said of each prompt before its answer."""
    if not body.echo:
        return [_Echo()] * len(prompts)
    role = ROLES_OF_MODE[body.mode][0]
    lm, control_tokens = engine.lm, body.nudge.control_tokens or "allow"
    texts = [prompt.text_of(lm.tokenizers[role]) for prompt in prompts]
    if body.logprobs is None:
        return [_Echo(text) for text in texts]
    engine.admit(1)
    echoes = []
    for prompt, text in zip(prompts, texts, strict=True):
        score = partial(_scored, lm, prompt, role, body, control_tokens)
        found = await engine.read(score, client_of(request))
        echoes.append(_Echo(text, found))
    return echoes


def _scored(
    lm: NudgedLM, prompt: RawPrompt, role: str, body: CompletionBody, control_tokens: Any, cancellation: Any
) -> list[tuple[int, TokenLogprobs | None]]:
    ids = lm.raw_prompt(role, prompt, control_tokens).ids
    # The most probable token is always told, so that a client sees whether the prompt's was it.
    found = lm.score(RawPrompt(ids=ids), role=role, top=max(body.logprobs or 0, 1), cancellation=cancellation)
    return list(zip(ids, found, strict=True))


def _only_echoes(engine: Engine, body: CompletionBody, head: dict[str, Any], echoes: Sequence[_Echo]) -> dict[str, Any]:
    found = [
        {
            "index": index,
            "text": echo.text,
            "logprobs": _logprobs(engine, body, (), echo),
            "finish_reason": "length",
        }
        for index, echo in enumerate(echo for echo in echoes for _ in range(body.n))
    ]
    read = sum(len(echo.tokens) for echo in echoes)
    return {**head, "choices": found, "usage": usage(read, [])}


def _logprobs(
    engine: Engine, body: CompletionBody, pieces: Sequence[Piece], echo: _Echo | None = None, offset: int = 0
) -> dict[str, Any] | None:
    """Of the tokens of a prompt that is said again, and of pieces behind `offset` characters."""
    if body.logprobs is None:
        return None
    tokenizers = engine.lm.tokenizers
    role = ROLES_OF_MODE[body.mode][0]
    found: dict[str, list[Any]] = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}

    def add(tokens: Sequence[tuple[int, TokenLogprobs | None]], source: str, at: int) -> None:
        more = completion_logprobs(tokens, tokenizers[source], max(body.logprobs or 0, 1), at)
        for name, values in more.items():
            found[name] += values

    if echo is not None and echo.tokens:
        add(echo.tokens, role, 0)
        offset += len(echo.text)
    for piece in pieces:
        add(known_of(piece), piece.source, offset)
        offset += len(piece.text)
    return found


async def _chunks(
    engine: Engine,
    choices: Choices,
    body: CompletionBody,
    head: dict[str, Any],
    read: int,
    echoes: Sequence[_Echo],
) -> AsyncGenerator[bytes, None]:
    wants_usage = body.stream_options is not None and body.stream_options.include_usage
    count = len(echoes) * body.n
    written = [len(echoes[index // body.n].text) for index in range(count)]

    def chunk(index: int, text: str, **more: Any) -> bytes:
        choice = {"index": index, "text": text, "logprobs": None, "finish_reason": None, **more}
        return event({**head, "choices": [choice], **({"usage": None} if wants_usage else {})})

    if body.echo:
        for index in range(count):
            echo = echoes[index // body.n]
            yield chunk(index, echo.text, logprobs=_logprobs(engine, body, (), echo))
    async for index, piece in choices:
        if piece is not None:
            logprobs = _logprobs(engine, body, [piece], offset=written[index])
            written[index] += len(piece.text)
            yield chunk(index, piece.text, logprobs=logprobs, nudge=origin(piece))
        else:
            writing: Writing = choices.writings[index]
            yield chunk(index, "", finish_reason=finish_reason(writing), nudge=ending(writing))
    if wants_usage:
        writings = [choices.writings[index] for index in range(count)]
        yield event({**head, "choices": [], "usage": usage(read, writings)})
    yield DONE
