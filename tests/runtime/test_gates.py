from __future__ import annotations

import numpy as np
import pytest

from nudge_onnx.errors import LogitsError, NudgeError
from nudge_onnx.runtime.choosing.gates import Softmax, entropy, margin, resolve_gate, top1

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
