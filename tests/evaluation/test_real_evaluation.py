"""lm-eval on the real pair: the paper's settings on sums of our own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from real import real_bundle

from nudge_onnx import NudgedLM
from nudge_onnx.evaluation.harness import Harness
from nudge_onnx.evaluation.running import evaluate
from nudge_onnx.runtime.nudging.results import Answer
from tests.evaluation.test_evaluation import Asked

SUMS = [
    ("Tom has 3 apples and buys 4 more. How many apples does he have?", "3 + 4 = 7\n#### 7"),
    ("A box holds 12 eggs. How many eggs do 2 boxes hold?", "12 * 2 = 24\n#### 24"),
    ("Ann had 10 coins and lost 1. How many are left?", "10 - 1 = 9\n#### 9"),
]


@pytest.mark.real
def test_modes_are_evaluated_on_what_they_write(tmp_path: Path) -> None:
    lines = [json.dumps({"question": question, "answer": answer}) for question, answer in SUMS]
    (tmp_path / "gsm8k.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    with NudgedLM.load(real_bundle("int8")) as lm:
        told: list[Answer] = []
        model = Harness(lm, "nudged", told.append, tail="lazy", max_new_tokens=48)
        found = evaluate(model, ["nudging_gsm8k"], data=tmp_path)
        samples = found["samples"]["nudging_gsm8k"]
        assert [sample["resps"][0][0] for sample in samples] == [answer.text for answer in told]
        assert all(answer.tokens["nudge"] and answer.tokens["base"] for answer in told)
        right = found["results"]["nudging_gsm8k"]["exact_match,none"]
        assert right == sum(sample["exact_match"] for sample in samples) / len(SUMS)
        # A model that knows anything finds a true sum more likely than a false one.
        asked = [Asked("One and one is", end) for end in (" two.", " cheese.")]
        (true, _), (false, _) = Harness(lm, "base").loglikelihood(asked)  # type: ignore[arg-type]
        assert true > false
