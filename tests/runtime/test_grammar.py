"""Answers that are held to a grammar: both models are, speculation changes nothing, and the gate reads what it read."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pairs import Pair

from nudge_onnx import Grammar, NudgedLM, NudgeError, Sampling
from nudge_onnx.errors import RuntimeMissingError
from nudge_onnx.runtime.choosing.closing import Closing
from nudge_onnx.runtime.text.prompt import as_messages

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 6},
        "age": {"type": "integer", "minimum": 0, "maximum": 99},
        "of": {"enum": ["north", "south", "größer"]},
        "tags": {"type": "array", "items": {"type": "boolean"}, "maxItems": 2},
    },
    "required": ["name", "age", "of", "tags"],
    "additionalProperties": False,
}


LETTERS = st.characters(min_codepoint=32, exclude_characters="\x7f", exclude_categories=["Cs", "Cc"])


@pytest.fixture(scope="module")
def word_lm(tiny_word_pair: Pair) -> Iterator[NudgedLM]:
    with NudgedLM.load(tiny_word_pair.bundle) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def token_lm(tiny_token_pair: Pair) -> Iterator[NudgedLM]:
    with NudgedLM.load(tiny_token_pair.bundle) as loaded:
        yield loaded


def pieces(answer: Any) -> list[Any]:
    return [(piece.text, piece.source, piece.token_ids) for piece in answer.pieces]


@pytest.mark.parametrize("mode", ["nudged", "base", "nudge"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_whoever_writes_keeps_to_the_schema(
    word_lm: NudgedLM, token_lm: NudgedLM, mode: Any, temperature: float
) -> None:
    grammar = Grammar.json_schema(PERSON)
    for lm in (word_lm, token_lm):
        for seed in range(4):
            answer = lm.generate(
                f"the cat {seed}",
                grammar=grammar,
                mode=mode,
                max_new_tokens=200,
                sampling=Sampling(temperature=temperature, seed=seed),
            )
            assert answer.finish_reason == "stop", answer
            jsonschema.validate(json.loads(answer.text), PERSON)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["the cat", "a dog", "no", "größer", "x y z"]),
    st.sampled_from(["(ja|nein|größer)( und (ja|nein)){0,3}", "[a-z]{2,9}( [0-9]{1,3}){1,4}", "(日本|ελ|😀)+ end"]),
    st.floats(0, 1),
    st.sampled_from(["word", "token"]),
)
def test_reading_ahead_changes_no_answer(
    word_lm: NudgedLM, token_lm: NudgedLM, prompt: str, pattern: str, gamma: float, policy: Any
) -> None:
    lm = token_lm if policy == "token" else word_lm
    asked: Any = {
        "grammar": Grammar.regex(pattern),
        "gamma": gamma,
        "policy": policy,
        "max_new_tokens": 40,
        "draft_tokens": 5,
    }
    plain = lm.generate(prompt, speculation="off", **asked)
    for ahead in ("auto", 1, 7):
        lm.pool.clear()
        assert pieces(lm.generate(prompt, speculation=ahead, **asked)) == pieces(plain)
    if plain.finish_reason == "stop":
        assert re.fullmatch(pattern, plain.text)


def test_the_gate_reads_what_the_model_said(word_lm: NudgedLM) -> None:
    # Every token is forced, and the probabilities are those of a model that is certain of next to nothing.
    answer = word_lm.generate("the cat", grammar=Grammar.regex("the only answer"), mode="base", max_new_tokens=40)
    assert answer.text == "the only answer"
    assert all(value is not None and value < 0.9 for piece in answer.pieces for value in piece.top1)
    logprobs = word_lm.generate(
        "the cat", grammar=Grammar.regex("the only answer"), mode="base", logprobs=1, max_new_tokens=40
    )
    found = [one for piece in logprobs.pieces for one in piece.logprobs if one]
    assert any(one.top[0][0] != one.token_id for one in found)


def test_a_grammar_in_larks_words(word_lm: NudgedLM) -> None:
    text = 'start: "(" /[0-9]+/ ")" | start " + " start'
    answer = word_lm.generate("the cat", grammar=Grammar.lark('start: "(" /[0-9]{1,3}/ ")"'), max_new_tokens=30)
    assert re.fullmatch(r"\([0-9]{1,3}\)", answer.text)
    assert Grammar.lark(text).source


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Grammar.json_schema({"type": "nix"}), "JSON schema cannot be used"),
        (lambda: Grammar.json_schema({"not": {"type": "string"}}), "not"),
        (lambda: Grammar.json_schema("{}"), "must be a JSON schema"),  # type: ignore[arg-type]
        (lambda: Grammar.json_schema({"a": {1, 2}}), "cannot be read"),
        (lambda: Grammar.regex("("), "regular expression cannot be used"),
        (lambda: Grammar.regex(5), "must be a regular expression"),  # type: ignore[arg-type]
        (lambda: Grammar.lark("start: nothing"), "grammar cannot be used"),
        (lambda: Grammar.lark(""), "grammar cannot be used"),
    ],
)
def test_a_bad_grammar_is_one_line(make: Any, says: str) -> None:
    with pytest.raises(NudgeError, match=says) as error:
        make()
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300


def test_without_llguidance_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(RuntimeMissingError, match=r"nudge-onnx\[grammar\]"):
        Grammar.json()


def test_baselines_have_no_grammar(token_lm: NudgedLM) -> None:
    with pytest.raises(NudgeError, match="'ensemble' has no grammar"):
        token_lm.stream("the cat", mode="ensemble", grammar=Grammar.json())


def test_an_answer_that_reaches_its_limit_is_closed(word_lm: NudgedLM, token_lm: NudgedLM) -> None:
    endless = {
        "type": "object",
        "properties": {"text": {"type": "string"}, "list": {"type": "array", "items": {"type": "integer"}}},
        "required": ["text", "list"],
    }
    for lm in (word_lm, token_lm):
        for limit in (24, 40, 64):
            asked: Any = {"grammar": Grammar.json_schema(endless), "max_new_tokens": limit}
            answer = lm.generate("the cat", **asked)
            assert answer.finish_reason in ("length", "repetition", "stop")
            jsonschema.validate(json.loads(answer.text), endless)
            assert sum(answer.tokens.values()) <= limit
            assert pieces(lm.generate("the cat", speculation="off", **asked)) == pieces(answer)


@pytest.mark.parametrize("mode", ["nudged", "base", "nudge"])
def test_an_answer_that_reaches_a_context_is_closed_too(word_lm: NudgedLM, token_lm: NudgedLM, mode: Any) -> None:
    endless = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    grammar = Grammar.json_schema(endless)
    for lm in (word_lm, token_lm):
        records = lm.bundle.manifest.models
        prompt = "the cat sat on"
        while (
            min(records[role].context_length - len(lm.prompt(role, as_messages(prompt)).ids) for role in records) > 90
        ):
            prompt += " a mat and"
        answer = lm.generate(prompt, grammar=grammar, mode=mode, max_new_tokens=4096)
        jsonschema.validate(json.loads(answer.text), endless)


def test_what_no_limit_can_hold_is_cut(word_lm: NudgedLM) -> None:
    answer = word_lm.generate("the cat", grammar=Grammar.json_schema(PERSON), max_new_tokens=4)
    assert answer.finish_reason == "length"
    assert sum(answer.tokens.values()) <= 4


@settings(max_examples=60, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(LETTERS, max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(LETTERS, max_size=4), inner, max_size=3),
        max_leaves=8,
    ),
    st.data(),
)
def test_json_is_closed_wherever_it_is_cut(document: Any, data: st.DataObject) -> None:
    text = json.dumps({"of": document}, ensure_ascii=False)
    cut = data.draw(st.integers(0, len(text)))
    closing = Closing(Grammar.json())
    assert closing.read(text[:cut])
    rest = closing.rest()
    assert rest is not None
    assert isinstance(json.loads(text[:cut] + rest), dict)
