"""`nudge-onnx calibrate`: the figures are those of the answers, and what is applied is what was asked for."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from nudge_onnx import Bundle, NudgedLM, RawPrompt
from nudge_onnx.calibration.agreement import agrees, kind_of
from nudge_onnx.calibration.reliability import reliability_of
from nudge_onnx.calibration.suggest import for_budget, for_ratio, for_speed
from nudge_onnx.calibration.sweep import Setting
from nudge_onnx.calibration.temperature import fit_temperature
from nudge_onnx.cli import main

BUNDLE = Path(__file__).parents[1] / "conformance" / "bundles" / "word"
NUMBERS = random.Random(1).sample(range(100, 1000), 160)
TEXTS, OTHERS = (
    [f"What is {number} and {number * 7}? Tell me about rivers." for number in numbers]
    for numbers in (NUMBERS[:60], NUMBERS[60:])
)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return Path(shutil.copytree(BUNDLE, tmp_path / "bundle"))


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps({"prompt": text, "answer": "7"}) + "\n" for text in TEXTS))
    return path


def run(*arguments: object) -> Any:
    return CliRunner().invoke(main, ["calibrate", *map(str, arguments), "--threads", "1"])


def ratio_of(bundle: Path, texts: list[str], tokens: int, **options: Any) -> float:
    with NudgedLM.load(bundle, threads=1) as lm:
        answers = lm.generate_batch(texts, max_new_tokens=tokens, **options)
    counts = {role: sum(answer.tokens[role] for answer in answers) for role in ("base", "nudge")}
    return counts["nudge"] / sum(counts.values())


def test_the_table_is_of_the_answers(bundle: Path, prompts: Path, tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    result = run(bundle, prompts, "--gamma", 0.05, "--gamma", 0.2, "--max-new-tokens", 12, "--json", "--plot", picture)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert [one["gamma"] for one in found["settings"]] == [0.05, 0.2]
    for one in found["settings"]:
        assert one["nudging_ratio"] == pytest.approx(ratio_of(bundle, TEXTS, 12, gamma=one["gamma"]))
        assert one["tokens_per_second"] > 0
        assert 0 <= one["agreement"] <= 1
    assert found["suggested"] is None
    assert sum(found["reliability"]["counts"]) == found["reliability"]["tokens"] > 100
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert not list(tmp_path.glob("*.part"))


def test_a_wanted_ratio_is_found_and_holds_on_other_prompts(bundle: Path, prompts: Path) -> None:
    wanted = ratio_of(bundle, TEXTS, 12, gamma=0.13)
    gammas = [part for gamma in (0.02, 0.1, 0.2, 0.4) for part in ("--gamma", gamma)]
    result = run(bundle, prompts, *gammas, "--ratio", wanted, "--max-new-tokens", 12, "--apply")
    assert result.exit_code == 0, result.output
    assert "<- suggested" in result.stdout
    applied = Bundle.open(bundle)
    applied.verify()  # all checksums hold
    assert applied.manifest.defaults.gamma != Bundle.open(BUNDLE).manifest.defaults.gamma
    # With the bundle's own default, on prompts that nothing was fitted to.
    assert ratio_of(bundle, OTHERS, 12) == pytest.approx(wanted, abs=0.06)


def test_a_speed_is_a_bound(bundle: Path, prompts: Path) -> None:
    result = run(bundle, prompts, "--gamma", 0.1, "--speed", 1e9, "--max-new-tokens", 4, "--apply")
    assert result.exit_code == 0
    assert "nothing that was tried" in result.stdout
    assert (bundle / "nudge.json").read_bytes() == (BUNDLE / "nudge.json").read_bytes()


@pytest.mark.parametrize(
    ("line", "arguments", "says"),
    [
        ("", [], "has no prompt"),
        ("{}", [], "either prompt or messages"),
        ('{"prompt": "x", "answer": 5}', [], "answer must be a text"),
        ('{"prompt": "x", "options": {"gamma": 1}}', [], "no place in a calibration"),
        ('{"prompt": "x", "note": 1}', [], "there is no 'note'"),
        ('{"prompt": "x"}', ["--apply"], "--apply needs"),
        ('{"prompt": "x"}', ["--ratio", "0.1", "--speed", "5"], "one of them"),
        ('{"prompt": "x"}', ["--budget", "9", "--speed", "5"], "one of them"),
        ('{"prompt": "x"}', ["--gate", "bet", "--fit-temperature"], "has no temperature"),
    ],
)
def test_bad_input_is_one_line(bundle: Path, tmp_path: Path, line: str, arguments: list[str], says: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(line + "\n")
    result = run(bundle, path, *arguments)
    assert result.exit_code in (1, 2)
    assert says in result.output
    assert "Traceback" not in result.output


def setting(gamma: float, ratio: float, speed: float = 10.0) -> Setting:
    return Setting("top1", gamma, 1.0, "draft", ratio, 100 * ratio, speed, 1.0, None)


def test_gamma_is_looked_for_between_those_that_enclose_it() -> None:
    def measure(gamma: float) -> Setting:
        return setting(gamma, gamma**2)

    known = [measure(gamma) for gamma in (0.1, 0.5, 0.9)]
    assert for_ratio(known, 0.1, measure).nudging_ratio == pytest.approx(0.1, abs=0.02)
    assert for_ratio(known, 0.99, measure) == known[-1]
    assert for_speed([setting(0.1, 0.1, 20), setting(0.5, 0.4, 12), setting(0.9, 0.8, 5)], 10) == setting(0.5, 0.4, 12)
    assert for_speed(known, 99) is None
    assert for_budget(known, 30) == known[1]
    assert for_budget(known, 0.5) is None


@pytest.mark.parametrize(
    ("answer", "reference", "same"),
    [
        ("So it is 1,234.50 in all.", "#### 1234.5", True),
        ("First 12, then 13.", "12", False),
        ("The answer is (B).", "B", True),
        ("A or B? It is C", "B", False),
        ("No number", "42", False),
        (" Paris \n", "paris", True),
        ("Paris, of course", "Paris", False),
        ("-5 degrees", "-5", True),
    ],
)
def test_agreement(answer: str, reference: str, same: bool) -> None:
    assert agrees(answer, reference) is same


def test_kinds_of_reference() -> None:
    assert [kind_of(text) for text in ("B", "#### 1,000", "3.5", "Paris", "B is right")] == [
        "letter",
        "number",
        "number",
        "exact",
        "exact",
    ]


def test_the_calibration_error_is_that_of_its_definition() -> None:
    generator = np.random.default_rng(1)
    top1 = generator.uniform(0, 1, 4000)
    perfect = generator.uniform(0, 1, 4000) < top1
    assert reliability_of(top1.tolist(), perfect.tolist()).error < 0.03
    sure = reliability_of([0.95] * 10, [True] * 5 + [False] * 5)
    assert sure.error == pytest.approx(0.45)
    assert sure.counts[9] == 10
    assert reliability_of([], []).error == 0.0
    assert reliability_of([1.0], [True]).error == 0.0


def test_the_probabilities_are_the_models(bundle: Path) -> None:
    with NudgedLM.load(bundle, threads=1) as lm:
        found = lm.score(RawPrompt(TEXTS[3]), top=1)
        again = lm.score(RawPrompt(TEXTS[3]), top=1)
    assert found == again


class Drawn:
    """A model whose texts are drawn at a temperature of 2."""

    def read(self, prompt: RawPrompt, row: Any, *, role: str) -> list[Any]:
        assert role == "base"
        generator = np.random.default_rng(len(prompt.text or ""))
        logits = generator.normal(0, 3, (800, 50)).astype(np.float32)
        odds = np.exp(logits / 2)
        return [
            None,
            *(row(one, generator.choice(50, p=two / two.sum())) for one, two in zip(logits, odds, strict=True)),
        ]


def test_the_temperature_of_a_text_is_found() -> None:
    fitted = fit_temperature(Drawn(), ["a", "bc"])  # type: ignore[arg-type]
    assert fitted.temperature == pytest.approx(2, abs=0.25)
    assert fitted.likelihood < fitted.plain_likelihood
    assert fitted.reliability.error < 0.05


def test_a_fitted_temperature_is_what_the_gate_reads(bundle: Path, prompts: Path) -> None:
    arguments = ("--gamma", 0.05, "--gamma", 0.2, "--max-new-tokens", 12, "--tail", "lazy", "--budget", 12)
    result = run(bundle, prompts, *arguments, "--fit-temperature", "--apply", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    temperature = found["fitted"]["temperature"]
    assert found["fitted"]["likelihood"] <= found["fitted"]["plain_likelihood"]
    for one in found["settings"]:
        options = {"gamma": one["gamma"], "gate_temperature": temperature, "tail": "lazy"}
        assert one["nudging_ratio"] == pytest.approx(ratio_of(bundle, TEXTS, 12, **options))
    applied = Bundle.open(bundle).manifest.defaults
    assert (applied.gate_temperature, applied.tail, applied.gamma) == (temperature, "lazy", found["suggested"]["gamma"])
