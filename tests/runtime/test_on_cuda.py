"""What a GPU computes: run where there is one, on a bundle for CUDA that NUDGE_CUDA_BUNDLE names."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from nudge_onnx import Bundle, NudgedLM
from nudge_onnx.runtime.inference.decoder import Decoder
from nudge_onnx.runtime.inference.opening import open_model
from nudge_onnx.runtime.sessions.model_session import ModelSession

FOLDER = os.environ.get("NUDGE_CUDA_BUNDLE", "")
ROLES = ("base", "nudge")
RECORDED = (False, True)
IDS = [int(token) for token in np.random.default_rng(3).integers(5, 256, 270)]

pytestmark = pytest.mark.skipif(not FOLDER, reason="needs a GPU, and NUDGE_CUDA_BUNDLE")


def opened(role: str, *, recorded: bool) -> ModelSession:
    graph = open_model(Bundle.open(FOLDER), role, [("cuda", {"enable_cuda_graph": recorded})])
    assert graph.provider == "cuda"
    return graph


def read(graph: ModelSession, size: int) -> npt.NDArray[np.float32]:
    decoder = Decoder(graph)
    parts = (IDS[at : at + size] for at in range(0, len(IDS), size))
    return np.concatenate([np.array(decoder.feed(part, len(part))) for part in parts])


@pytest.mark.parametrize("recorded", RECORDED)
@pytest.mark.parametrize("role", ROLES)
def test_rows_have_the_same_bits_however_the_ids_are_spread_over_calls(role: str, recorded: bool) -> None:
    found = opened(role, recorded=recorded)
    for graph in (found, replace(found, rows="eights")):
        singly = read(graph, 1)
        for size in (3, 8, 20):
            np.testing.assert_array_equal(read(graph, size), singly)


@pytest.mark.parametrize("role", ROLES)
def test_a_recorded_pass_returns_what_any_pass_does(role: str) -> None:
    np.testing.assert_array_equal(read(opened(role, recorded=True), 1), read(opened(role, recorded=False), 1))


@pytest.mark.parametrize("role", ROLES)
def test_logits_are_those_of_the_cpu(role: str) -> None:
    found = read(opened(role, recorded=True), 8)
    wanted = read(open_model(Bundle.open(FOLDER), role, ["cpu"]), 8)
    # Quantised products round their inputs on a CPU, and not on a GPU.
    assert np.abs(found - wanted).mean() < 0.05 * np.std(wanted)
    assert (found.argmax(-1) == wanted.argmax(-1)).mean() > 0.85


def test_an_answer_does_not_depend_on_what_is_recorded_or_read_ahead() -> None:
    answers = []
    for recorded in RECORDED:
        with NudgedLM.load(FOLDER, providers=[("cuda", {"enable_cuda_graph": recorded})]) as lm:
            for speculation in ("off", "auto", 4):
                answers += [lm.generate("the cat", max_new_tokens=60, speculation=speculation).pieces]
    assert all(pieces == answers[0] for pieces in answers)
    assert answers[0]
