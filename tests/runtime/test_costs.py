"""What passes are thought to cost."""

from __future__ import annotations

import pytest

from nudge_onnx.runtime.inference.costs import Costs


def measured(*passes: tuple[int, float]) -> Costs:
    costs = Costs()
    for rows, seconds in passes:
        costs.add(rows, seconds)
    return costs


def test_a_size_that_was_never_measured_costs_what_it_usually_does() -> None:
    assert Costs().of(4) == 0
    costs = measured((1, 0.1))
    assert costs.of(1) == pytest.approx(0.1)
    assert costs.of(2) == pytest.approx(0.11)
    assert costs.of(16) == pytest.approx(0.36)


def test_a_mean_comes_near_what_is_measured() -> None:
    costs = measured(*[(1, 0.1)] * 3, *[(4, 0.3)] * 40)
    assert costs.of(4) == pytest.approx(0.3, rel=0.02)
    assert costs.of(3) == costs.of(4)


def test_one_slow_pass_does_not_rule_a_size_out_for_ever() -> None:
    costs = measured((1, 0.1), (2, 0.9))
    assert costs.of(2) > 0.2
    for _ in range(60):
        costs.add(1, 0.1)
    assert costs.of(2) < 0.13
    # What is dear each time stays dear while it is used.
    for _ in range(20):
        costs.add(2, 0.3)
    assert costs.of(2) == pytest.approx(0.3, rel=0.05)


def test_a_size_that_is_cheaper_than_usual_stays_so() -> None:
    costs = measured((1, 0.1), *[(16, 0.2)] * 30, *[(1, 0.1)] * 100)
    assert costs.of(16) == pytest.approx(0.2, rel=0.02)


def test_more_rows_than_fit_are_several_passes() -> None:
    costs = Costs(least_rows=2, most_rows=8)
    costs.add(1, 0.1)
    assert costs.of(1) == costs.of(2) == pytest.approx(0.1)
    assert costs.of(16) == pytest.approx(2 * costs.of(8))
