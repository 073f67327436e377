"""`/v1/responses`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .running import MESSAGES, Running


def ask(server: Running, **body: Any) -> Any:
    return server.post("/v1/responses", **{"input": MESSAGES[0]["content"], "max_output_tokens": 16, **body})


def test_a_response_is_the_runtimes_answer(server: Running) -> None:
    answer = server.lm.generate(MESSAGES, max_new_tokens=16, control_tokens="escape")
    found = ask(server, metadata={"trace": "7"}).json()
    assert found["output"][0]["content"][0]["text"] == answer.text
    assert found["status"] == ("completed" if answer.finish_reason == "stop" else "incomplete")
    assert found["metadata"] == {"trace": "7"}
    assert found["usage"]["output_tokens"] == sum(answer.tokens.values())
    assert found["store"] is False
    again = ask(server, input=[{"role": "user", "content": [{"type": "input_text", "text": MESSAGES[0]["content"]}]}])
    assert again.json()["output"][0]["content"] == found["output"][0]["content"]


def test_instructions_are_a_system_message(server: Running) -> None:
    asked = [{"role": "system", "content": "Be brief."}, *MESSAGES]
    answer = server.lm.generate(asked, max_new_tokens=16, control_tokens="escape")
    assert ask(server, instructions="Be brief.").json()["output"][0]["content"][0]["text"] == answer.text


def test_a_conversation_goes_on_with_what_was_given_back(server: Running) -> None:
    first = ask(server).json()["output"][0]
    found = ask(server, input=[MESSAGES[0], first, {"role": "user", "content": "And then?"}])
    assert found.status_code == 200, found.text


def test_events_come_in_order_and_end_with_the_response(server: Running) -> None:
    whole = ask(server).json()
    text = ask(server, stream=True).text
    blocks = [block.split("\n") for block in text.strip().split("\n\n") if not block.startswith(":")]
    names = [lines[0].removeprefix("event: ") for lines in blocks]
    data = [json.loads(lines[1].removeprefix("data: ")) for lines in blocks]
    assert names == [one["type"] for one in data]
    assert [one["sequence_number"] for one in data] == list(range(len(data)))
    assert names[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert names[-4:] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        f"response.{whole['status']}",
    ]
    said = "".join(one["delta"] for one in data if one["type"] == "response.output_text.delta")
    assert said == whole["output"][0]["content"][0]["text"] == data[-1]["response"]["output"][0]["content"][0]["text"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id is not supported"),
        ({"store": True}, "store"),
        ({"input": ""}, "empty"),
        ({"reasoning": {"effort": "low"}}, "reasoning is not supported"),
        ({"include": ["x"]}, "include is not supported"),
        ({"input": [{"type": "function_call_output", "role": "user", "content": "x"}]}, "message"),
    ],
)
def test_what_needs_a_memory_or_tools_is_refused(server: Running, body: Any, says: str) -> None:
    response = ask(server, **body)
    assert response.status_code == 400
    assert says in response.json()["error"]["message"]
