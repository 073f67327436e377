"""Clients that others wrote, unchanged: the official ones for Python and Node, the AI SDK.

lm-eval is tried in `tests/evaluation`.
"""

from __future__ import annotations

import json
import subprocess
from typing import Any

import openai
import pytest
from pydantic import BaseModel, Field

from tests.node.install import HERE, installed

from .running import MESSAGES, MODEL, Running

PROMPT = MESSAGES[0]["content"]


@pytest.fixture(scope="module")
def client(server: Running) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


@pytest.fixture(scope="module")
def answer(server: Running) -> str:
    return server.lm.generate(MESSAGES, max_new_tokens=16, control_tokens="escape").text


def test_openai_for_python_chats(client: openai.OpenAI, answer: str) -> None:
    asked: Any = {"model": MODEL, "messages": MESSAGES, "max_tokens": 16}
    whole = client.chat.completions.create(**asked)
    assert whole.choices[0].message.content == answer
    chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == answer
    assert chunks[-1].usage == whole.usage
    told = client.chat.completions.create(
        **asked, logprobs=True, top_logprobs=2, extra_body={"nudge": {"mode": "base"}}
    )
    assert told.choices[0].logprobs.content[0].top_logprobs[0].logprob <= 0  # type: ignore[union-attr,index]


def test_openai_for_python_completes_and_responds(client: openai.OpenAI, answer: str) -> None:
    completion = client.completions.create(model=f"{MODEL}:base", prompt=PROMPT, max_tokens=4, echo=True, logprobs=2)
    assert completion.choices[0].text.startswith(PROMPT)
    assert completion.choices[0].logprobs.token_logprobs[0] is None  # type: ignore[union-attr,index]
    response = client.responses.create(model=MODEL, input=PROMPT, max_output_tokens=16)
    assert response.output_text == answer
    held: Any = {"nudge": {"regex": "[a-c]{3}"}}
    with client.responses.stream(model=MODEL, input=PROMPT, extra_body=held) as stream:
        told = "".join(one.delta for one in stream if one.type == "response.output_text.delta")
        assert stream.get_final_response().output_text == told
        assert len(told) == 3
    assert [one.id for one in client.models.list()] == [MODEL, f"{MODEL}:base", f"{MODEL}:nudge"]
    assert client.models.retrieve(MODEL).id == MODEL


def test_openai_for_python_parses_what_a_schema_holds(client: openai.OpenAI) -> None:
    class Found(BaseModel):
        good: bool
        count: int = Field(ge=0, le=9)

    parsed = client.chat.completions.parse(model=MODEL, messages=MESSAGES, response_format=Found, max_tokens=60)  # type: ignore[arg-type]
    assert isinstance(parsed.choices[0].message.parsed, Found)
    told = client.responses.parse(model=MODEL, input=PROMPT, text_format=Found, max_output_tokens=60)
    assert isinstance(told.output_parsed, Found)


def test_openai_for_python_is_told_of_errors_as_it_knows_them(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="none", messages=MESSAGES)  # type: ignore[arg-type]
    with pytest.raises(openai.BadRequestError) as error:
        client.chat.completions.create(
            model=MODEL,
            messages=MESSAGES,  # type: ignore[arg-type]
            tools=[{"type": "function", "function": {"name": "x"}}],
        )
    assert error.value.param == "tools"


def in_node(script: str, server: Running) -> Any:
    folder = installed()
    # Modules are looked for beside a script, not in the folder where it is run.
    link = folder / script
    link.unlink(missing_ok=True)
    link.write_bytes((HERE / script).read_bytes())
    command = ["node", link.name, server.url, MODEL, PROMPT]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_openai_for_node(server: Running, answer: str) -> None:
    found = in_node("openai.mjs", server)
    assert found["whole"] == found["streamed"] == found["response"] == found["told"] == answer
    assert found["usage"]["completion_tokens"] > 0
    assert found["completion"]
    assert found["models"] == [MODEL, f"{MODEL}:base", f"{MODEL}:nudge"]
    assert found["refused"] == {"name": "NotFoundError", "code": "model_not_found"}
    server.wait_until_idle()


def test_the_ai_sdk(server: Running, answer: str) -> None:
    found = in_node("ai_sdk.mjs", server)
    assert found["whole"] == found["streamed"] == answer
    assert found["object"]["size"] in ("small", "large")
    assert 0 <= found["object"]["count"] <= 9
    assert found["usage"]["outputTokens"] > 0
