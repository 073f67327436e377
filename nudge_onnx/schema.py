"""The part of JSON Schema that `bundle.schema.json` is written in, so that the schema is what the reader checks by.

Of draft 2020-12: `$ref` to `$defs`, `type`, `const`, `enum`, `minimum`, `maximum`, `minLength`, `maxLength`, `pattern`,
`required`, `properties`, `additionalProperties`, `propertyNames`, `items`, `uniqueItems`. Annotations are skipped;
`description` is what an error says that a value must be.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nudge_onnx.strict_json import shown

__all__ = ["KEYWORDS", "MissingFieldError", "Schema", "SchemaError"]

KEYWORDS = frozenset(
    [
        *("$ref", "type", "const", "enum", "minimum", "maximum", "minLength", "maxLength", "pattern", "required"),
        *("properties", "additionalProperties", "propertyNames", "items", "uniqueItems"),
        # Annotations.
        *("$schema", "$defs", "title", "description", "format"),
    ]
)
"""All that a schema may hold; others would be believed to be checked."""

_TYPES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "null": (lambda value: value is None, "null"),
    "boolean": (lambda value: isinstance(value, bool), "true or false"),
    "integer": (lambda value: _is_number(value) and value == int(value), "a whole number"),
    "number": (lambda value: _is_number(value), "a number"),
    "string": (lambda value: isinstance(value, str), "a text"),
    "array": (lambda value: isinstance(value, list), "a list"),
    "object": (lambda value: isinstance(value, dict), "an object"),
}
_PLAIN = re.compile(r"[\w./()+ -]{1,200}", re.ASCII)


class SchemaError(ValueError):
    """A value breaks a rule: one line that names the field and what it must be."""


class MissingFieldError(SchemaError):
    """An object lacks a field; the message is its path, as in `models.base.graph`."""


class Schema:
    """A JSON Schema; values are finite JSON, as `strict_json.parse` returns it."""

    def __init__(self, text: str) -> None:
        self._root: Mapping[str, Any] = json.loads(text)

    def check(self, value: Any) -> Any:
        """`value` with every whole number that was written as a fraction (`2.0`) as an `int`.

        Raises `SchemaError` for the first rule that is broken.
        """
        return self._check(value, self._root, ())

    def _check(self, value: Any, schema: Mapping[str, Any], at: tuple[str, ...]) -> Any:
        if "$ref" in schema:
            schema = self._root["$defs"][schema["$ref"].removeprefix("#/$defs/")]
        if not _fits(value, schema):
            raise SchemaError(f"{_path(at) or 'the whole'} must be {_wanted(schema)}, not {shown(value)}")
        if isinstance(value, dict):
            return self._object(value, schema, at)
        if isinstance(value, list) and "items" in schema:
            return [self._check(item, schema["items"], (*at, str(number))) for number, item in enumerate(value)]
        return int(value) if isinstance(value, float) and "integer" in _types(schema) else value

    def _object(self, value: dict[str, Any], schema: Mapping[str, Any], at: tuple[str, ...]) -> dict[str, Any]:
        for name in schema.get("required", ()):
            if name not in value:
                raise MissingFieldError(_path((*at, name)))
        known, others, names = (schema.get(key, {}) for key in ("properties", "additionalProperties", "propertyNames"))
        found = {}
        for name, item in value.items():
            self._check(name, names, (*at, "(a name)"))
            found[name] = self._check(item, known.get(name, others), (*at, name))
        return found


def _fits(value: Any, schema: Mapping[str, Any]) -> bool:
    """Whether a value is what a schema says of it, apart from what it says of its parts."""
    if (types := _types(schema)) and not any(_TYPES[name][0](value) for name in types):
        return False
    if "const" in schema and value != schema["const"]:
        return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    if _is_number(value):
        return bool(schema.get("minimum", value) <= value <= schema.get("maximum", value))
    if isinstance(value, str):
        long_enough = schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value))
        return long_enough and re.search(schema.get("pattern", ""), value) is not None
    if isinstance(value, list) and schema.get("uniqueItems"):
        # 2 and 2.0 are one number.
        return len({item if _is_number(item) else json.dumps(item, sort_keys=True) for item in value}) == len(value)
    return True


def _path(at: Sequence[str]) -> str:
    return ".".join(part if _PLAIN.fullmatch(part) else shown(part) for part in at)


def _types(schema: Mapping[str, Any]) -> list[str]:
    named = schema.get("type", [])
    return [named] if isinstance(named, str) else named


def _wanted(schema: Mapping[str, Any]) -> str:
    if "description" in schema:
        return str(schema["description"])
    if "enum" in schema:
        return f"one of {', '.join(map(str, schema['enum']))}"
    if "const" in schema:
        return json.dumps(schema["const"])
    wanted = " or ".join(_TYPES[name][1] for name in _types(schema))
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None:
        wanted += f" from {low} to {high}" if high is not None else f" of at least {low}"
    return wanted + (", each entry once" if schema.get("uniqueItems") else "")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
