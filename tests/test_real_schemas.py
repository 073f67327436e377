"""On the real pair: what is held to a real schema is JSON that it admits, with and without reading ahead."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from real import EVERY, real_bundle
from real_schemas import real_schemas

from nudge_onnx import Grammar, NudgedLM
from nudge_onnx.runtime.many import answers

COUNT = 100
TOKENS = 256


@pytest.fixture(scope="module")
def lm() -> Iterator[NudgedLM]:
    with NudgedLM.load(real_bundle("int8")) as loaded:
        yield loaded


@pytest.mark.real
def test_a_hundred_schemas_give_json_that_they_admit(lm: NudgedLM) -> None:
    schemas = real_schemas(COUNT)
    assert len(schemas) == COUNT
    schemas = schemas[:: EVERY if EVERY == 1 else 4 * EVERY]

    def begin(schema: dict[str, Any], grammar: Grammar, speculation: Any) -> Any:
        prompt = f"Write a short example of {schema['typeName']} as JSON."
        return lambda: lm.stream(prompt, grammar=grammar, max_new_tokens=TOKENS, speculation=speculation)

    ahead, alone = (
        list(answers((begin(schema, grammar, speculation) for schema, grammar in schemas), lm.slots))
        for speculation in ("auto", "off")
    )
    for (schema, _), answer in zip(schemas, ahead, strict=True):
        jsonschema.Draft7Validator(schema).validate(json.loads(answer.text))
        assert sum(answer.tokens.values()) <= TOKENS
    assert [one.pieces for one in ahead] == [one.pieces for one in alone]
