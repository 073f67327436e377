"""Every field of a manifest has a type and a range, and the reader and the JSON Schema say the same of each."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

import nudge_onnx.manifest
from nudge_onnx.bundle import Bundle, Manifest
from nudge_onnx.errors import BundleError
from nudge_onnx.schema import KEYWORDS, Schema, SchemaError

At = tuple[str | int, ...]
SCHEMA_TEXT = Path(nudge_onnx.manifest.__file__).with_name("bundle.schema.json").read_text(encoding="utf-8")
VALIDATOR = Draft202012Validator(json.loads(SCHEMA_TEXT))
CONFORMANCE = Path(__file__).parent / "conformance" / "bundles"
REAL: dict[str, Any] = json.loads((CONFORMANCE / "word" / "nudge.json").read_text(encoding="utf-8"))
REAL["models"]["base"]["parity"] |= {"kl": 0.5}
REAL["models"]["proxy_base"] = copy.deepcopy(REAL["models"]["nudge"])

NULLABLE = frozenset(
    [
        *("parameters", "prompt_rows", "parity", "attention_mask", "position_ids", "logits_rows", "top1_id"),
        *("top1_probability", "log_sum_exp", "top2_logit", "entropy", "revision", "sha256", "licence"),
        *("claimed_context", "float_weights", "windows", "peak_memory"),
    ]
)
OPTIONAL = frozenset(
    [
        *("parameters", "steady_rows", "prompt_rows", "parity", "top1_id", "top1_probability", "log_sum_exp"),
        *("top2_logit", "entropy", "claimed_context", "float_weights", "windows", "peak_memory", "proxy_base"),
        *("gate_temperature", "tail"),
    ]
)
"""Fields of a model or its parts that may be missing; those of the maps `exporter`, `tokens` and `files` are free."""
VALUES = (
    *(None, True, False, 0, 1, -1, 2, 2.0, 1.5, -0.5, 1e300, 2**31, 2**53, 2**70, "", "x", "2", "0.4", "no", "{"),
    *("{layer}", "a{layer}b{layer}", "{layer}\n", "../x", "/x", "a\\b", "c:x", "a\nb", "x" * 5000, "0" * 64, "0" * 65),
    *("1.1\n", "1.", "2.0", "word", "int8", "float32", [], {}, [5], ["1"], [-1], [2, 2.0], [True], {"x": 5}, [[]]),
)


def places(value: Any, at: At = ()) -> Iterator[At]:
    """Where each field and each entry of a list stands."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*at, key)
        yield from places(item, (*at, key))


def holder(data: Any, at: At) -> Any:
    for key in at[:-1]:
        data = data[key]
    return data


def value_at(at: At) -> Any:
    return holder(REAL, at)[at[-1]]


def changed(at: At, value: Any) -> dict[str, Any]:
    data = copy.deepcopy(REAL)
    holder(data, at)[at[-1]] = value
    return data


def without(at: At) -> dict[str, Any]:
    data = copy.deepcopy(REAL)
    del holder(data, at)[at[-1]]
    return data


def refused(data: Any) -> bool:
    """Whether the reader refuses it, in one line; whatever else it may raise fails the test."""
    try:
        Manifest.from_json(json.dumps(data))
    except BundleError as error:
        return len(str(error).splitlines()) == 1 and str(error).isascii()
    return False


def broken(data: Any) -> bool:
    try:
        Schema(SCHEMA_TEXT).check(data)
    except SchemaError:
        return True
    return False


PLACES = list(places(REAL))


def test_the_real_manifest_is_good() -> None:
    assert VALIDATOR.is_valid(REAL)
    assert not refused(REAL)
    assert len(PLACES) > 150


@pytest.mark.parametrize("at", PLACES, ids=lambda at: ".".join(map(str, at)))
def test_the_reader_and_the_schema_agree_about_every_field(at: At) -> None:
    for value in VALUES:
        data = changed(at, value)
        valid = VALIDATOR.is_valid(data)
        assert broken(data) != valid, value
        # Fields may contradict each other, which is more than the schema can say.
        assert valid or refused(data), value


@pytest.mark.parametrize("at", PLACES, ids=lambda at: ".".join(map(str, at)))
def test_a_field_of_another_type_is_refused_by_both(at: At) -> None:
    kinds: list[tuple[type | tuple[type, ...], Any]] = [
        (bool, True), ((int, float), 7), (str, "7"), (list, []), (dict, {"x": "7"}),
    ]  # fmt: skip
    own, nullable = value_at(at), at[-1] in NULLABLE and at[0] in ("models", "peak_memory")
    if own is None:
        # What may be null is a text or a whole number: no list and no flag.
        kinds = [(bool, True), (list, []), (float, 1.5)]
    for kind, wrong in [*kinds, *([] if nullable else [(type(None), None)])]:
        same = isinstance(own, kind) and not (isinstance(own, bool) and kind == (int, float))
        if not same:
            assert not VALIDATOR.is_valid(changed(at, wrong)), wrong
            assert refused(changed(at, wrong)), wrong


@pytest.mark.parametrize("at", [at for at in PLACES if isinstance(at[-1], str)], ids=lambda at: ".".join(map(str, at)))
def test_a_missing_field_is_refused_by_both_unless_it_is_optional(at: At) -> None:
    free = (at[0] in ("exporter", "files") and len(at) == 2) or at[-2:-1] == ("tokens",) or at[-1] in OPTIONAL
    data = without(at)
    assert VALIDATOR.is_valid(data) == free
    assert broken(data) != free
    if not free:
        with pytest.raises(BundleError, match=rf"{at[-1]}|is this the right folder"):
            Manifest.from_json(json.dumps(data))


def test_unknown_fields_are_skipped_everywhere() -> None:
    data = copy.deepcopy(REAL)
    maps = {"exporter", "files", "tokens"}
    data["version"] = "1.9"
    data["mood"] = {"deep": [None, 1]}
    for at in PLACES:
        if isinstance(value_at(at), dict) and at[-1] not in maps:
            holder(data, at)[at[-1]]["mood"] = ["good", None, {"x": 1e5}]
    assert VALIDATOR.is_valid(data)
    assert Manifest.from_json(json.dumps(data)).models == Manifest.from_json(json.dumps(REAL)).models


def test_the_schema_holds_no_keyword_that_the_reader_does_not_know() -> None:
    def keywords(schema: Any) -> Iterator[str]:
        yield from schema
        for key in ("items", "additionalProperties", "propertyNames"):
            if key in schema:
                yield from keywords(schema[key])
        for key in ("properties", "$defs"):
            for part in schema.get(key, {}).values():
                yield from keywords(part)

    Draft202012Validator.check_schema(json.loads(SCHEMA_TEXT))
    assert set(keywords(json.loads(SCHEMA_TEXT))) <= KEYWORDS


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (("models", "base", "end_token_ids"), 5),
        (("models", "base", "end_token_ids"), ["1"]),
        (("models", "base", "end_token_ids"), "12"),
        (("models", "base", "context_length"), "512"),
        (("models", "base", "cache", "layers"), "2"),
        (("models", "base", "prompt_rows"), 1),
        (("models", "base", "io", "past_key"), "{"),
        (("models", "base", "io", "top1_id"), 5),
        (("models", "base", "graph"), "a/" * 2500),
        (("defaults", "gamma"), "0.4"),
        (("shared_vocabulary",), "no"),
        (("version",), 1.1),
    ],
)
def test_an_error_names_the_field_what_it_must_be_and_what_it_is(at: At, value: Any) -> None:
    with pytest.raises(BundleError, match=r"^nudge\.json has an ill-formed field \(") as caught:
        Manifest.from_json(json.dumps(changed(at, value)))
    field, _, rest = str(caught.value).partition(" must be ")
    assert ".".join(map(str, at)) in field
    assert ", not " in rest
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 100_000 + "]" * 100_000, "levels deep"),
        ('{"format": "nudge-onnx-bundle", "x": ' + "[" * 70 + "]" * 70 + "}", "levels deep"),
        ('{"format": "nudge-onnx-bundle", "format": "nudge-onnx-bundle"}', "stands twice"),
        ('{"format": NaN}', "NaN"),
        ('{"format": 1e999}', "too large"),
        ('{"format": ' + "9" * 5000 + "}", "too large"),
        ('{"format": "\\ud800"}', "surrogate"),
        ("\ufeff{}", "not valid JSON"),
        ('{"format": "nudge-onnx-bundle"', "not valid JSON"),
        ("", "not valid JSON"),
        ("null", "is this the right folder"),
    ],
    ids=range(11),
)
def test_json_that_readers_understand_differently_is_refused(text: str, reason: str) -> None:
    with pytest.raises(BundleError, match=reason) as caught:
        Manifest.from_json(text)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda data: data["files"].pop("base/model.onnx"), "uses base/model.onnx and does not list it"),
        (lambda data: data["defaults"].update(policy="token"), "needs one vocabulary"),
        (lambda data: data["models"]["base"]["io"].update(attention_mask="input_ids"), "for two things"),
        (lambda data: data["models"]["base"]["io"].update(top1_id="logits"), "for two things"),
    ],
)
def test_fields_that_contradict_each_other_are_refused(change: Callable[[dict[str, Any]], Any], reason: str) -> None:
    data = copy.deepcopy(REAL)
    data["shared_vocabulary"] = False
    change(data)
    with pytest.raises(BundleError, match=reason):
        Manifest.from_json(json.dumps(data))


def test_a_manifest_of_format_1_0_is_read() -> None:
    older = copy.deepcopy(REAL)
    older["version"] = "1.0"
    for model in older["models"].values():
        del model["steady_rows"]
        model.pop("prompt_rows", None)
        for name in ("top1_id", "top1_probability", "log_sum_exp", "top2_logit", "entropy"):
            del model["io"][name]
    manifest = Manifest.from_json(json.dumps(older))
    assert manifest.version == "1.0"
    assert (manifest.models["base"].steady_rows, manifest.models["base"].prompt_rows) == (False, None)
    assert manifest.models["base"].io.top1_id is None


def test_whole_numbers_may_be_written_as_fractions() -> None:
    data = changed(("models", "base", "context_length"), 64.0)
    assert Manifest.from_json(json.dumps(data)).models["base"].context_length == 64
    assert isinstance(Manifest.from_json(json.dumps(data)).models["base"].context_length, int)


@pytest.mark.parametrize("text", [b"\xff\xfe", b'{"format": "\xe9"}'])
def test_a_manifest_that_is_no_utf8_is_refused(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "nudge.json").write_bytes(text)
    with pytest.raises(BundleError, match=r"nudge\.json cannot be read"):
        Bundle.open(tmp_path)


def test_a_folder_with_a_name_that_no_file_can_have_is_refused() -> None:
    for folder in ("x" * 5000, "a\0b"):
        with pytest.raises(BundleError) as caught:
            Bundle.open(folder)
        assert len(str(caught.value).splitlines()) == 1
