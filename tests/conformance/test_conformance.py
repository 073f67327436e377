"""The Python runtime against the vectors that every client is held to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nudge_onnx import NudgedLM, NudgeError
from nudge_onnx.bundle import Bundle, Prompt
from nudge_onnx.runtime.nudging.transcript import to_text
from nudge_onnx.runtime.text.control_tokens import prompt_ids
from nudge_onnx.runtime.text.templates import render
from nudge_onnx.runtime.text.tokenizer import Tokenizer

HERE = Path(__file__).resolve().parent


def vectors(name: str) -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = json.loads((HERE / name).read_text(encoding="utf-8"))
    return cases


TRACES = vectors("traces.json")


@pytest.fixture(scope="module")
def models() -> Iterator[dict[str, NudgedLM]]:
    loaded = {bundle: NudgedLM.load(HERE / bundle) for bundle in ("bundles/word", "bundles/token")}
    yield loaded
    for lm in loaded.values():
        lm.close()


@pytest.mark.parametrize("tokenizer", vectors("tokenizer.json"), ids=lambda tokenizer: tokenizer["file"])
def test_texts_have_the_ids_and_ids_the_bytes_of_the_vectors(tokenizer: dict[str, Any]) -> None:
    ours = Tokenizer(HERE / tokenizer["file"])
    assert [ours.bytes_of(number).hex() for number in range(len(tokenizer["token_bytes"]))] == tokenizer["token_bytes"]
    assert ours.encode_prompt("", True)[0] == tokenizer["prefix"]
    for case in tokenizer["cases"]:
        assert ours.encode(case["text"]) == case["ids"], case["text"]
        assert ours.encode_prompt(case["text"], False)[0] == case.get("prompt_ids", case["ids"]), case["text"]


def test_bytes_become_text_up_to_a_character_that_has_only_begun() -> None:
    for case in vectors("utf8.json"):
        assert to_text(bytes.fromhex(case["bytes"])) == (case["text"], case["pending"])


def test_templates_render_or_refuse_as_recorded() -> None:
    for case in vectors("templates.json"):
        prompt = Prompt(case["template"], case["tokens"])
        if "text" in case:
            assert render(prompt, case["messages"]) == case["text"], case["name"]
        else:
            with pytest.raises(NudgeError):
                render(prompt, case["messages"])


def test_messages_that_spell_control_tokens_have_the_ids_of_the_vectors() -> None:
    for case in vectors("prompts.json"):
        arguments = (
            Prompt(case["template"], case["tokens"]),
            case["messages"],
            Tokenizer(HERE / case["file"]),
            "base",
            case["control_tokens"],
        )
        if "ids" in case:
            assert prompt_ids(*arguments).ids == case["ids"], case
        else:
            with pytest.raises(NudgeError):
                prompt_ids(*arguments)


@pytest.mark.parametrize("speculation", ["off", "auto", 4])
def test_answers_are_those_of_the_traces(models: dict[str, NudgedLM], speculation: Any) -> None:
    for trace in TRACES:
        answer = models[trace["bundle"]].generate(trace["messages"], speculation=speculation, **trace["options"])
        pieces = answer.to_dict()["pieces"]
        assert (answer.text, answer.finish_reason) == (trace["text"], trace["finish_reason"])
        assert [_exact(piece) for piece in pieces] == [_exact(piece) for piece in trace["pieces"]]
        for ours, theirs in zip(pieces, trace["pieces"], strict=True):
            assert ours["top1"] == pytest.approx(theirs["top1"], abs=1e-4)


def _exact(piece: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in piece.items() if key != "top1"}


def test_the_traces_cover_the_method() -> None:
    """Vectors that miss a branch would prove nothing about it."""
    pieces = [piece for trace in TRACES for piece in trace["pieces"]]
    assert len(TRACES) >= 60
    assert {trace["finish_reason"] for trace in TRACES} == {"stop", "length", "repetition"}
    assert {trace["options"]["policy"] for trace in TRACES} == {"word", "token"}
    assert {trace["options"].get("gate", "top1") for trace in TRACES} == {"top1", "margin", "entropy", "bet"}
    assert {trace["options"].get("tail", "draft") for trace in TRACES} == {"draft", "lazy"}
    assert any(trace["messages"][-1]["role"] == "assistant" for trace in TRACES)
    assert any("gate_temperature" in trace["options"] for trace in TRACES)
    assert any(trace["options"].get("stop") and trace["finish_reason"] == "stop" for trace in TRACES)
    assert any(len(trace["messages"]) > 1 for trace in TRACES)
    assert any(None in piece["top1"] for piece in pieces), "a draft is cut inside a token"
    assert any(len(piece["token_ids"]) > 1 for piece in pieces if piece["source"] == "base"), "a character spans tokens"
    assert sum(piece["source"] == "base" for piece in pieces) > len(pieces) // 4
    assert sum(piece["source"] == "nudge" for piece in pieces) > len(pieces) // 20


@pytest.mark.parametrize("name", ["word", "token"])
def test_the_bundles_are_whole_and_small(name: str) -> None:
    folder = HERE / "bundles" / name
    Bundle.open(folder).verify()
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 1_500_000
