"""A web service with FastAPI: `python service.py BUNDLE`, then

curl -N localhost:8000/answer -H 'content-type: application/json' -d '{"messages": [{"role": "user", "content": "Hi"}]}'
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, HTTPException
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from nudge_onnx import NudgedLM, NudgeError, Stream

AT_ONCE = 2
"""Answers that are written at the same time; one already uses all cores."""


class Question(BaseModel):
    """What a client sends."""

    messages: list[dict[str, str]]
    gamma: float | None = Field(None, ge=0, le=1)
    max_new_tokens: int = Field(256, ge=1, le=1024)


def service(bundle: str) -> FastAPI:
    """The application; the bundle is loaded when it starts."""
    places = threading.Semaphore(AT_ONCE)
    loaded: dict[str, NudgedLM] = {}

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        with NudgedLM.load(bundle) as loaded["lm"]:
            yield

    app = FastAPI(title="nudge-onnx", lifespan=lifespan)

    # Plain functions: FastAPI runs them in threads, and so it does each step of `lines`.
    @app.post("/answer")
    def answer(question: Question) -> StreamingResponse:
        try:
            # Text of a stranger: it must not write control tokens into the prompt.
            stream = loaded["lm"].stream(
                question.messages,
                gamma=question.gamma,
                max_new_tokens=question.max_new_tokens,
                control_tokens="escape",
            )
        except NudgeError as error:
            raise HTTPException(422, str(error)) from error
        return StreamingResponse(lines(stream, places), media_type="application/x-ndjson")

    return app


def lines(stream: Stream, places: threading.Semaphore) -> Iterator[str]:
    """One JSON object a line: the pieces, then how the answer ended. Closed when the client has gone."""
    with places, stream:
        try:
            for piece in stream:
                yield _line(text=piece.text, source=piece.source)
        except NudgeError as error:
            yield _line(error=str(error))
        yield _line(finish_reason=stream.answer.finish_reason)


def _line(**fields: Any) -> str:
    return json.dumps(fields, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    import uvicorn

    uvicorn.run(service(*sys.argv[1:]))
