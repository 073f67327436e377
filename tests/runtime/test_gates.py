from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nudge_onnx import NudgedLM, Sampling
from nudge_onnx.errors import LogitsError, NudgeError
from nudge_onnx.runtime.choosing.choosers import Chooser
from nudge_onnx.runtime.choosing.gates import HeadRow, Softmax, budget, entropy, margin, resolve_gate, top1
from nudge_onnx.runtime.inference.outputs import Summary
from nudge_onnx.runtime.nudging.entropy_stop import EntropyStop

LOGITS = np.array([1.0, 3.0, 2.0, -1.0], np.float32)
PROBABILITIES = np.exp(LOGITS.astype(np.float64)) / np.exp(LOGITS.astype(np.float64)).sum()


def test_each_measure_is_the_textbook_one() -> None:
    softmax = Softmax(LOGITS, "base")
    ordered = np.sort(PROBABILITIES)
    assert softmax.argmax == 1
    assert softmax.top1 == pytest.approx(ordered[-1])
    assert softmax.margin == pytest.approx(ordered[-1] - ordered[-2])
    assert softmax.entropy == pytest.approx(-(PROBABILITIES * np.log(PROBABILITIES)).sum() / np.log(4))


def test_a_gate_is_certain_from_its_threshold_on() -> None:
    softmax = Softmax(LOGITS, "base")
    for gate, value in ((top1, softmax.top1), (margin, softmax.margin), (entropy, 1 - softmax.entropy)):
        assert gate(softmax, value - 1e-6)
        assert not gate(softmax, value + 1e-6)


@pytest.mark.parametrize("offset", [1e4, -1e4])
def test_large_logits_neither_overflow_nor_vanish(offset: float) -> None:
    moved = Softmax(LOGITS + np.float32(offset), "base")
    assert moved.top1 == pytest.approx(PROBABILITIES.max(), rel=1e-3)
    assert 0 <= moved.entropy <= 1


def test_minus_infinity_rules_a_token_out() -> None:
    row = np.array([0.0, -np.inf, 0.0], np.float32)
    softmax = Softmax(row, "base")
    assert softmax.top1 == pytest.approx(0.5)
    assert softmax.margin == pytest.approx(0.0)
    assert softmax.entropy == pytest.approx(np.log(2) / np.log(3))


@pytest.mark.parametrize("bad", [[0.0, np.nan], [-np.inf, -np.inf], [np.inf, 0.0]])
def test_broken_logits_name_the_model(bad: list[float]) -> None:
    with pytest.raises(LogitsError, match="the nudging model"):
        Softmax(np.array(bad, np.float32), "nudging")


def test_any_callable_is_a_gate_and_an_unknown_name_is_not() -> None:
    def never(_softmax: Softmax, _gamma: float) -> bool:
        return False

    assert resolve_gate(never) is never
    with pytest.raises(NudgeError, match="'top1', 'margin', 'entropy'"):
        resolve_gate("perplexity")


WORD = Path(__file__).parents[1] / "conformance" / "bundles" / "word"


def test_the_head_tells_the_gates_what_logits_do() -> None:
    softmax = Softmax(LOGITS, "base")
    log_sum = float(np.log(np.exp(LOGITS.astype(np.float64)).sum()))
    nats = softmax.entropy * np.log(4)
    row = HeadRow(Summary(1, softmax.top1, log_sum, 2.0, nats), 4)
    assert (row.top1, row.margin, row.entropy) == pytest.approx((softmax.top1, softmax.margin, softmax.entropy))


@pytest.mark.parametrize("gate", ["margin", "entropy", "top1", "bet"])
def test_an_answer_by_the_head_is_the_one_by_logits(gate: str) -> None:
    with NudgedLM.load(WORD, threads=1) as lm:
        for gamma in (0.2, 0.5, 0.8):
            asked = {"gate": gate, "gamma": gamma, "max_new_tokens": 40}
            by_head = lm.generate("the cat sat on", **asked)  # type: ignore[arg-type]
            by_logits = lm.generate("the cat sat on", **asked, logprobs=0)  # type: ignore[arg-type]
            assert [piece.token_ids for piece in by_head.pieces] == [piece.token_ids for piece in by_logits.pieces]


def test_a_budget_is_what_the_unlikely_tokens_have_together() -> None:
    softmax = Softmax(LOGITS, "base")
    assert budget(softmax, 0.99)  # an arg-max is never of the tail
    ordered = np.argsort(PROBABILITIES)
    for place, token in enumerate(ordered):
        softmax.chosen = int(token)
        share = PROBABILITIES[ordered[: place + 1]].sum()
        assert softmax.tail == pytest.approx(share)
        assert budget(softmax, share - 1e-6)
        assert place == 3 or not budget(softmax, share + 1e-6)


def test_the_nudging_model_writes_no_more_often_than_its_budget() -> None:
    logits = np.random.default_rng(4).normal(0, 2, 50).astype(np.float32)
    uncertain = 0
    for seed in range(2000):
        chooser = Chooser("base", Sampling(temperature=1, seed=seed), budget, 0.2, 1)
        uncertain += not chooser(logits, [0], 1).certain
    assert 0.1 < uncertain / 2000 <= 0.23


def test_a_budget_needs_a_token_that_is_drawn() -> None:
    with NudgedLM.load(WORD, threads=1) as lm:
        with pytest.raises(NudgeError, match="set a temperature, or take another gate"):
            lm.generate("the cat", gate="budget", gamma=0.2)
        lm.generate("the cat", gate="budget", mode="base", max_new_tokens=2)  # where no gate is asked
        asked = {"gate": "budget", "gamma": 0.3, "max_new_tokens": 40, "sampling": Sampling(temperature=1, seed=5)}
        answers = {lm.generate("the cat", **asked, speculation=ahead).text for ahead in ("off", "auto", 8)}  # type: ignore[arg-type]
        assert len(answers) == 1


def test_a_temperature_is_the_gates_alone() -> None:
    plain = Chooser("base", Sampling(), top1, 0.5, 1)(LOGITS, [0], 1)
    for temperature, certain in ((0.5, True), (4.0, False)):
        choice = Chooser("base", Sampling(), top1, 0.5, 1, gate_temperature=temperature)(LOGITS, [0], 1)
        assert (choice.token, choice.top1, choice.certain) == (plain.token, plain.top1, certain)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"gate_temperature": 0}, "gate_temperature must be a number between 0.01 and 100"),
        ({"gate": "bet", "gate_temperature": 2}, "gate 'bet' compares two models and has no gate_temperature"),
        ({"tail": "eager"}, "tail must be one of 'draft', 'lazy'"),
    ],
)
def test_bad_options_are_one_line(options: dict[str, object], says: str) -> None:
    with NudgedLM.load(WORD, threads=1) as lm, pytest.raises(NudgeError, match=says):
        lm.generate("the cat", **options)  # type: ignore[arg-type]


def test_a_draft_stops_where_its_entropy_promises_too_little() -> None:
    stop = EntropyStop()
    assert not stop.stops(0.0)
    assert not stop.stops(None)
    assert stop.stops(3.0)
    # Accepted drafts lower the threshold, rejected ones raise it, slowly.
    before = stop.threshold
    for _ in range(30):
        stop.drafted(4)
        for _ in range(4):
            stop.saw(True)
    assert before - 0.04 < stop.threshold < before
    lowest = stop.threshold
    for _ in range(30):
        stop.drafted(4)
        stop.saw(False)
        stop.saw(True)  # of a draft that is over
    assert stop.threshold > lowest
