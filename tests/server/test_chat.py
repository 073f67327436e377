"""Answers over HTTP are those of the runtime, to the letter."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nudge_onnx import NudgedLM, Sampling

from .running import MESSAGES, Running


def events(text: str) -> list[Any]:
    data = [line.removeprefix("data: ") for line in text.split("\n") if line.startswith("data: ")]
    assert data[-1] == "[DONE]"
    return [json.loads(one) for one in data[:-1]]


def expected(lm: NudgedLM, **options: Any) -> Any:
    return lm.generate(MESSAGES, **{"max_new_tokens": 16, "control_tokens": "escape", **options})


@pytest.mark.parametrize("mode", ["nudged", "base", "nudge"])
def test_an_answer_is_the_runtimes(server: Running, mode: Any) -> None:
    answer = expected(server.lm, mode=mode)
    found = server.chat(nudge={"mode": mode, "pieces": True}).json()
    choice = found["choices"][0]
    assert choice["message"]["content"] == answer.text
    assert choice["nudge"]["nudging_ratio"] == answer.nudging_ratio
    assert [p["token_ids"] for p in choice["nudge"]["pieces"]] == [list(p.token_ids) for p in answer.pieces]
    assert [p["top1"] for p in choice["nudge"]["pieces"]] == [list(p.top1) for p in answer.pieces]
    assert found["usage"]["completion_tokens"] == sum(answer.tokens.values())


def test_a_stream_has_the_same_pieces_and_usage_last(server: Running) -> None:
    answer = expected(server.lm)
    response = server.chat(stream=True, stream_options={"include_usage": True})
    assert response.headers["content-type"].startswith("text/event-stream")
    chunks = events(response.text)
    written = [c["choices"][0] for c in chunks if c["choices"] and "source" in c["choices"][0].get("nudge", {})]
    assert [(c["delta"]["content"], c["nudge"]["source"]) for c in written] == [
        (p.text, p.source) for p in answer.pieces
    ]
    assert chunks[-2]["choices"][0]["finish_reason"] == ("stop" if answer.finish_reason == "stop" else "length")
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] == sum(answer.tokens.values())
    assert all(chunk["usage"] is None for chunk in chunks[:-1])


def test_choices_are_sampled_with_seeds_of_their_own(server: Running) -> None:
    found = server.chat(n=3, temperature=1.0, top_p=0.9, seed=7).json()
    texts = [choice["message"]["content"] for choice in found["choices"]]
    assert texts == [
        expected(server.lm, sampling=Sampling(temperature=1.0, top_p=0.9, seed=7 + n)).text for n in range(3)
    ]
    assert len(set(texts)) > 1


def test_penalties_and_bias_are_the_runtimes(server: Running) -> None:
    first = expected(server.lm, mode="base").pieces[0].token_ids[0]
    answer = expected(server.lm, mode="base", logit_bias={first: -100})
    found = server.chat(logit_bias={str(first): -100}, nudge={"mode": "base"}).json()
    assert found["choices"][0]["message"]["content"] == answer.text
    assert answer.pieces[0].token_ids[0] != first
    sampling = Sampling(frequency_penalty=1.5, presence_penalty=0.5)
    found = server.chat(frequency_penalty=1.5, presence_penalty=0.5).json()
    assert found["choices"][0]["message"]["content"] == expected(server.lm, sampling=sampling).text


def test_logprobs_are_of_raw_logits(server: Running) -> None:
    answer = expected(server.lm, mode="base", logprobs=3)
    content = server.chat(logprobs=True, top_logprobs=3, nudge={"mode": "base"}).json()["choices"][0]["logprobs"][
        "content"
    ]
    known = [one for piece in answer.pieces for one in piece.logprobs]
    assert [one["logprob"] for one in content] == [one.logprob for one in known if one]
    assert all(len(one["top_logprobs"]) == 3 for one in content)
    assert all(one["top_logprobs"][0]["logprob"] == one["logprob"] for one in content)  # greedy


def test_messages_in_parts_and_developer_role(server: Running) -> None:
    parts = [
        {"role": "user", "content": [{"type": "text", "text": "Tell me "}, {"type": "text", "text": "about rivers."}]}
    ]
    one = server.chat(messages=parts).json()["choices"][0]["message"]["content"]
    assert one == server.chat().json()["choices"][0]["message"]["content"]
    told = [{"role": "developer", "content": "Be brief."}, *MESSAGES]
    asked = [{"role": "system", "content": "Be brief."}, *MESSAGES]
    answer = server.lm.generate(asked, max_new_tokens=16, control_tokens="escape")
    assert server.chat(messages=told).json()["choices"][0]["message"]["content"] == answer.text


@pytest.mark.parametrize(
    ("body", "param", "says"),
    [
        ({"tools": [{"type": "function"}]}, "tools", "at most 0"),
        ({"functions": []}, "functions", "functions is not supported"),
        ({"audio": {}}, "audio", "not supported"),
        ({"nudge": {"gama": 0.3}}, "nudge.gama", "nudge.gama is not supported"),
        ({"nudge": {"gamma": 2}}, "nudge.gamma", "less than or equal to 1"),
        ({"temperature": "hot"}, "temperature", "valid number"),
        ({"n": 0}, "n", "greater than"),
        ({"messages": []}, "messages", "at least 1"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role", "'system'"),
        ({"messages": [{"role": "user", "content": ""}]}, "messages.0", "no content"),
        ({"top_logprobs": 2}, None, "needs logprobs"),
        ({"stream_options": {"include_usage": True}}, None, "needs stream"),
        ({"response_format": {"type": "xml"}}, "response_format", "json_object"),
        ({"store": True}, "store", "False"),
        ({"max_tokens": 3, "max_completion_tokens": 4}, None, "differ"),
        ({"nudge": {"mode": "ensemble"}}, None, "one vocabulary"),
        ({"logit_bias": {"99999999": 1}}, None, "the model has"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(server: Running, body: Any, param: Any, says: str) -> None:
    response = server.chat(**body)
    error = response.json()["error"]
    assert response.status_code == 400, error
    assert error["type"] == "invalid_request_error"
    assert says in error["message"]
    assert error["param"] == param


def test_null_is_the_same_as_nothing(server: Running) -> None:
    nulls = dict.fromkeys(("temperature", "tools", "stop", "seed", "functions", "nudge"))
    assert server.chat(**nulls).json()["choices"][0]["message"] == server.chat().json()["choices"][0]["message"]


def test_a_prompt_beyond_the_context_is_told_as_such(server: Running) -> None:
    response = server.chat(messages=[{"role": "user", "content": "many words " * 600}])
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "context_length_exceeded"


def test_an_unknown_model_is_not_found(server: Running) -> None:
    response = server.chat(model="gpt-5")
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "model_not_found"
    assert server.client.get("/v1/models/gpt-5").status_code == 404
    assert server.client.get("/v1/models/tiny").json()["id"] == "tiny"
    assert [one["id"] for one in server.client.get("/v1/models").json()["data"]] == ["tiny", "tiny:base", "tiny:nudge"]


def test_a_model_alone_has_a_name_of_its_own(server: Running) -> None:
    for mode in ("base", "nudge"):
        found = server.chat(model=f"tiny:{mode}").json()["choices"][0]["message"]["content"]
        assert found == server.lm.generate(MESSAGES, mode=mode, max_new_tokens=16, control_tokens="escape").text
    response = server.chat(model="tiny:base", nudge={"mode": "nudge"})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "nudge.mode"
