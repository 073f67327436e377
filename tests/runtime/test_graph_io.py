"""A manifest that says other names, types or shapes of a graph than the graph has is refused when it is loaded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from nudge_onnx import NudgedLM
from nudge_onnx.errors import BundleError

WORD = Path(__file__).parent.parent / "conformance" / "bundles" / "word"


@pytest.mark.parametrize(
    ("part", "field", "value", "reason"),
    [
        ("io", "top1_id", "nope", "lacks the output nope"),
        ("io", "logits", "nope", "lacks the output nope"),
        ("io", "present_value", "now.{layer}", r"lacks the output now\.0"),
        ("io", "past_key", "then.{layer}", r"lacks the input then\.0"),
        ("io", "input_ids", "nope", "lacks the input nope"),
        ("io", "position_ids", "places", "lacks the input places"),
        ("io", "logits_rows", None, "wants the input logits_rows"),
        ("io", "attention_mask", None, "wants the input attention_mask"),
        ("io", "top1_id", "top1_probability", r"tensor\(float\) as output top1_probability"),
        ("cache", "layers", 3, r"lacks the input past_key_values\.2\.key"),
        ("cache", "layers", 1, r"wants the input past_key_values\.1\.key"),
        ("cache", "kv_heads", 4, "of shape"),
        ("cache", "head_size", 8, "of shape"),
        ("cache", "dtype", "int8", r"tensor\(float\) as input past_key_values\.0\.key"),
        (None, "vocabulary_size", 300, "output logits of shape"),
    ],
)
def test_a_manifest_that_does_not_describe_its_graph_is_refused(
    tmp_path: Path, part: str | None, field: str, value: Any, reason: str
) -> None:
    bundle = shutil.copytree(WORD, tmp_path / "bundle")
    data = json.loads((bundle / "nudge.json").read_text(encoding="utf-8"))
    model = data["models"]["base"]
    if value == "top1_probability":
        model["io"]["top1_probability"] = "top1_id"
    (model[part] if part else model)[field] = value
    (bundle / "nudge.json").write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(BundleError, match=reason) as caught:
        NudgedLM.load(bundle)
    assert len(str(caught.value).splitlines()) == 1
