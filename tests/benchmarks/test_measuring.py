"""Rounds, ratios, tables and divergences: what every benchmark's figures pass through."""

from __future__ import annotations

import time
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import report
from benchmarks.quality import compared
from benchmarks.report import Report, markdown
from benchmarks.rounds import alternate, ratio, turned
from benchmarks.workers.profiled import by_kind
from benchmarks.workers.watched import Stopwatch


def test_engines_take_turns_and_each_round_begins_with_another_one() -> None:
    order: list[str] = []
    samples = alternate(["a", "b", "c"], 2, "test", lambda title: order.append(title) or len(order))
    assert order == ["a", "b", "c", "b", "c", "a", "c", "a", "b"]
    assert samples == {"a": [6, 8], "b": [4, 9], "c": [5, 7]}
    assert turned(["a", "b"], 3) == ["b", "a"]


def test_a_ratio_is_the_median_of_those_of_each_round() -> None:
    # A machine that became ten times slower in the last round says nothing about who is faster.
    samples = {"ours": [1.0, 1.0, 10.0], "theirs": [2.0, 1.5, 30.0]}
    found = ratio(samples, "ours", "theirs", 1.2)
    assert (found.median, found.low, found.high, found.goal) == (2.0, 1.5, 3.0, 1.2)


def test_a_table_is_markdown_with_numbers_on_the_right() -> None:
    assert markdown(("", "ms"), [("a", 1.5)]) == "|  | ms |\n| --- | ---: |\n| a | 1.5 |"


def test_figures_of_an_older_processor_have_a_name_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Report("decode", "", "", environment={}).name == "decode"
    monkeypatch.setattr(report, "OLDER", "avx2")
    assert Report("decode", "", "", environment={}).name == "decode-avx2"


def test_divergence_agreement_and_perplexity_are_those_of_the_definition() -> None:
    ids = [0, 1, 0]
    reference = np.log(np.array([[0.5, 0.5], [0.9, 0.1], [0.2, 0.8]], np.float32)) + 3
    other = np.log(np.array([[0.25, 0.75], [0.9, 0.1], [0.6, 0.4]], np.float32))
    found = compared(reference, other, ids)
    kl = 0.5 * np.log(2) + 0.5 * np.log(2 / 3) + 0.2 * np.log(1 / 3) + 0.8 * np.log(2)
    assert found["kl"] == pytest.approx(kl / 3, rel=1e-5)
    assert found["top1"] == pytest.approx(1 / 3)  # the first row of the reference is a tie that goes to id 0
    assert found["perplexity"] == pytest.approx(np.exp(-(np.log(0.75) + np.log(0.9)) / 2), rel=1e-5)


def test_a_stopwatch_counts_a_part_without_the_parts_that_it_calls() -> None:
    watch = Stopwatch()
    inner = SimpleNamespace(wait=lambda: time.sleep(0.03))
    watch.watch(inner, "wait", "inner")
    outer = SimpleNamespace(wait=lambda: (time.sleep(0.01), inner.wait()))
    watch.watch(outer, "wait", "outer")
    outer.wait()
    assert watch.calls == {"inner": 1, "outer": 1}
    assert watch.seconds["inner"] >= 0.03
    assert 0.01 <= watch.seconds["outer"] < watch.seconds["inner"]


def test_a_profile_counts_what_a_branch_runs_by_itself_and_leaves_the_warm_up_out() -> None:
    def node(kind: str, ts: int, dur: int) -> dict[str, object]:
        return {"cat": "Node", "name": f"{kind}_kernel_time", "ts": ts, "dur": dur, "args": {"op_name": kind}}

    events: list[dict[str, object]] = []
    for run in range(10):
        at = 1000 * run
        events += [node("If", at + 10, 80), node("MatMulNBits", at + 12, 50), node("If", at + 63, 25)]
        events += [node("GroupQueryAttention", at + 65, 20), node("Cast", at + 95, 4)]
        events += [{"cat": "Session", "name": "model_run", "ts": at, "dur": 100}]
    spent, runs = by_kind(events)
    assert runs == 2
    # 80 without 50 and 25, and 25 without 20, and 20
    assert spent == {"products": 100, "attention": 60, "the rest": 8}
