"""Raw prompts over HTTP: texts and ids, echo, log-probabilities."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from nudge_onnx import RawPrompt

from .running import Running

TEXT = "The rivers of the north"


def ask(server: Running, **body: Any) -> Any:
    response = server.post("/v1/completions", **{"prompt": TEXT, "max_tokens": 12, **body})
    assert response.status_code == 200, response.text
    return response.json()


@pytest.mark.parametrize("mode", ["nudged", "base", "nudge"])
def test_a_text_and_its_ids_go_on_as_the_runtime_goes_on(server: Running, mode: Any) -> None:
    role = "nudge" if mode == "nudge" else "base"
    ids = server.lm.raw_prompt(role, RawPrompt(TEXT)).ids
    by_text = server.lm.generate(RawPrompt(TEXT), mode=mode, max_new_tokens=12).text
    by_ids = server.lm.generate(RawPrompt(ids=ids), mode=mode, max_new_tokens=12).text
    assert ask(server, nudge={"mode": mode})["choices"][0]["text"] == by_text
    assert ask(server, prompt=ids, nudge={"mode": mode})["choices"][0]["text"] == by_ids


def test_several_prompts_and_choices_keep_their_order(server: Running) -> None:
    prompts = [TEXT, "One", "Two and three"]
    found = ask(server, prompt=prompts, n=2, temperature=1, seed=3)
    alone = [ask(server, prompt=prompt, n=2, temperature=1, seed=3)["choices"] for prompt in prompts]
    assert [one["index"] for one in found["choices"]] == list(range(6))
    assert [one["text"] for one in found["choices"]] == [one["text"] for some in alone for one in some]


def test_echo_with_logprobs_scores_the_prompt(server: Running) -> None:
    ids = server.lm.raw_prompt("base", RawPrompt(TEXT)).ids
    found = ask(server, prompt=ids, echo=True, logprobs=1, max_tokens=1, nudge={"mode": "base"})
    logprobs = found["choices"][0]["logprobs"]
    assert len(logprobs["tokens"]) == len(logprobs["token_logprobs"]) == len(logprobs["top_logprobs"]) == len(ids) + 1
    assert logprobs["token_logprobs"][0] is None
    for value, top in zip(logprobs["token_logprobs"][1:], logprobs["top_logprobs"][1:], strict=True):
        assert value <= max(top.values()) <= 0
    assert found["choices"][0]["text"].startswith(TEXT)
    # The same by another way: the probability that the model has of the token when it writes.
    written = server.lm.generate(RawPrompt(ids=ids[:-1]), mode="base", max_new_tokens=1, logprobs=20)
    top = dict(written.pieces[0].logprobs[0].top)  # type: ignore[union-attr]
    if ids[-1] in top:
        assert logprobs["token_logprobs"][len(ids) - 1] == pytest.approx(top[ids[-1]], abs=1e-4)


def test_a_prompt_alone_is_scored(server: Running) -> None:
    found = ask(server, echo=True, logprobs=0, max_tokens=0, nudge={"mode": "nudge"})
    choice = found["choices"][0]
    assert choice["text"] == TEXT
    assert all(math.isfinite(value) for value in choice["logprobs"]["token_logprobs"][1:])
    assert "".join(choice["logprobs"]["tokens"]).strip() == TEXT


def test_scores_of_two_models_are_refused(server: Running) -> None:
    response = server.post("/v1/completions", prompt=TEXT, echo=True, logprobs=1)
    assert response.status_code == 400
    assert "set nudge.mode to base or nudge" in response.json()["error"]["message"]


def test_offsets_are_those_of_the_text(server: Running) -> None:
    found = ask(server, echo=True, logprobs=1, nudge={"mode": "base"})["choices"][0]
    for token, offset in zip(found["logprobs"]["tokens"], found["logprobs"]["text_offset"], strict=True):
        if not token.startswith("bytes:"):
            assert found["text"][offset : offset + len(token)] == token


def test_a_stream_says_the_same(server: Running) -> None:
    whole = ask(server, echo=True)["choices"][0]
    text = server.post("/v1/completions", prompt=TEXT, max_tokens=12, echo=True, stream=True).text
    chunks = [json.loads(line[6:]) for line in text.split("\n") if line.startswith("data: {")]
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == whole["text"]
    assert chunks[-1]["choices"][0]["finish_reason"] == whole["finish_reason"]


def test_stop_texts_and_formats(server: Running) -> None:
    whole = ask(server)["choices"][0]["text"]
    stop = whole[3:6]
    assert ask(server, stop=[stop])["choices"][0]["text"] == whole[: whole.index(stop)]
    found = ask(server, max_tokens=64, nudge={"regex": "(red|blue) [0-9]{2}"})["choices"][0]
    assert found["text"][:3] in ("red", "blu")
    assert found["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"prompt": []}, "at least 1"),
        ({"prompt": ""}, "empty"),
        ({"prompt": [[]]}, "at least 1"),
        ({"prompt": [10**6]}, "the model has"),
        ({"prompt": [-1]}, "greater than"),
        ({"max_tokens": 0}, "needs echo"),
        ({"best_of": 3}, "best_of"),
        ({"suffix": "x"}, "suffix"),
    ],
)
def test_bad_requests_are_told_why(server: Running, body: Any, says: str) -> None:
    response = server.post("/v1/completions", **{"prompt": TEXT, **body})
    assert response.status_code == 400
    assert says in response.json()["error"]["message"]


def test_tokenize_and_detokenize(server: Running) -> None:
    for role in ("base", "nudge"):
        found = server.client.post(
            "/tokenize", json={"prompt": TEXT, "role": role, "add_special_tokens": False, "return_token_strs": True}
        ).json()
        assert found["tokens"] == server.lm.tokenizers[role].encode_prompt(TEXT, False)[0]
        assert found["count"] == len(found["tokens"]) == len(found["token_strs"])
        back = server.client.post("/detokenize", json={"tokens": found["tokens"], "role": role}).json()
        assert back["prompt"].strip() == TEXT
    messages = [{"role": "user", "content": "Hi"}]
    prompt = server.lm.prompt("base", messages, "escape").ids
    assert server.client.post("/tokenize", json={"messages": messages}).json()["tokens"] == prompt
    assert server.client.post("/tokenize", json={}).status_code == 400
    assert server.client.post("/detokenize", json={"tokens": [10**8]}).status_code == 400
    assert server.client.get("/tokenizer_info").json()["eos_token"]
