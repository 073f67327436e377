"""Every argument of the public calls has a type and a range, checked before anything is read."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pairs import Pair

from nudge_onnx import NudgedLM, NudgeError
from nudge_onnx.runtime.choosing.sampling import Sampling
from nudge_onnx.runtime.options import AnswerOptions, StreamOptions

NAN, INFINITE = float("nan"), float("inf")


@pytest.fixture(scope="module")
def lm(tiny_token_pair: Pair) -> Iterator[NudgedLM]:
    with NudgedLM.load(tiny_token_pair.bundle) as loaded:
        yield loaded


class Unprintable:
    def __repr__(self) -> str:
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("gamma", ["0.3", -0.1, 1.1, NAN, INFINITE, True, [], np.array([0.1, 0.2]), 10**5000]),
        ("policy", ["", "words", 1, b"word", ["word"], {}]),
        ("gate", ["", "top2", 1, b"top1", ["top1"], {}]),
        ("draft_tokens", [0, -1, 1.5, 3.0, "3", True, NAN, 2**31, Unprintable()]),
        ("max_new_tokens", [0, -1, 3.0, "3", True, NAN, 2**31, np.float32(3)]),
        ("stop", ["", [""], [5], 5, b"x", [b"x"], [None], ["a", ""], {"a": 1}]),
        ("mode", ["", "both", 1, None, ["base"]]),
        ("speculation", ["", "fast", "3", -1, 257, 1.0, True, None, [], np.array([1, 2])]),
        ("sampling", [{}, 0.7, "greedy", Sampling]),
        ("nudge_sampling", [{}, 0.7, "greedy", Sampling]),
        ("system_prompt", [5, b"be kind", ["be kind"]]),
        ("control_tokens", ["", "keep", 1, None, ["allow"]]),
        ("logprobs", [-1, 21, 1.5, True, "3"]),
        ("grammar", ["[a-z]", {}, 5]),
        ("logit_bias", [[], "x", 5]),
    ],
)
def test_a_bad_argument_is_one_line_before_the_first_pass(lm: NudgedLM, name: str, values: list[object]) -> None:
    for value in values:
        with pytest.raises(NudgeError, match=f"^{name} must be ") as error:
            lm.stream("the cat", **{name: value})  # type: ignore[arg-type]
        line = str(error.value)
        assert "\n" not in line
        assert len(line) < 250


def test_none_is_the_default(lm: NudgedLM) -> None:
    names = ("gamma", "policy", "gate", "draft_tokens", "stop", "system_prompt", "sampling", "nudge_sampling")
    plain = lm.generate("the cat", max_new_tokens=12)
    said = lm.generate("the cat", max_new_tokens=12, **dict.fromkeys(names))
    assert said.pieces == plain.pieces
    assert sum(lm.generate("the dog", mode="base", max_new_tokens=None).tokens.values()) <= 256


def test_numbers_of_numpy_will_do(lm: NudgedLM) -> None:
    plain = lm.generate("the cat", gamma=0.5, draft_tokens=4, max_new_tokens=12, speculation=3)
    options: dict[str, Any] = {"gamma": np.float64(0.5), "draft_tokens": np.int32(4), "speculation": np.int64(3)}
    assert lm.generate("the cat", max_new_tokens=np.uint8(12), **options).pieces == plain.pieces


def test_an_answer_without_a_seed_is_another_one_each_time(lm: NudgedLM) -> None:
    hot = Sampling(temperature=3, seed=None)
    answers = {lm.generate("the cat", mode="base", sampling=hot, max_new_tokens=12).text for _ in range(4)}
    assert len(answers) > 1


def test_models_without_a_seed_draw_with_the_same_one() -> None:
    options = AnswerOptions(
        sampling=Sampling(temperature=1, seed=None), nudge_sampling=Sampling(temperature=2, seed=None)
    )
    assert options.sampling_of("base").seed == options.sampling_of("nudge").seed is not None
    assert options.sampling_of("nudge").temperature == 2


def test_the_options_of_a_call_are_those_of_the_object() -> None:
    assert {field.name for field in dataclasses.fields(AnswerOptions)} == set(StreamOptions.__annotations__)


def test_an_unknown_option_is_named_with_those_there_are(lm: NudgedLM) -> None:
    for call in (lm.stream, lm.generate):
        with pytest.raises(
            NudgeError,
            match=r"^there is no option 'gama', only gamma, policy, gate, gate_temperature, tail, draft_tokens, ",
        ):
            call("the cat", gama=0.3)  # type: ignore[call-arg]


def test_options_are_checked_by_themselves() -> None:
    with pytest.raises(NudgeError, match=r"^gamma must be a number between 0 and 1, not 2$"):
        AnswerOptions(gamma=2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        AnswerOptions().gamma = 0.1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("threads", [0, -1, 1025, 1_000_000, 1.0, "2", True, NAN]),
        ("cache_mib", [-1, 2**40 + 1, 1.5, "512", None, True]),
        ("cache_dir", ["", 5, b"x", "a\0b", []]),
        ("folder", ["", None, 5, b"x", "a\0b"]),
        ("providers", [None, 5, {"cpu": {}}, [5], [("cpu",)], [("cpu", {}, 1)], [(5, {})]]),
    ],
)
def test_a_bad_argument_of_load_is_one_line(tiny_token_pair: Pair, name: str, values: list[object]) -> None:
    for value in values:
        arguments: dict[str, Any] = {"folder": tiny_token_pair.bundle, name: value}
        with pytest.raises(NudgeError, match=f"^{name} must be "):
            NudgedLM.load(**arguments)


@pytest.mark.parametrize("options", [None, [], "x", {5: 1}])
def test_options_of_a_provider_are_a_mapping(tiny_token_pair: Pair, options: object) -> None:
    with pytest.raises(NudgeError, match=r"^the options of provider 'cpu' must be "):
        NudgedLM.load(tiny_token_pair.bundle, providers=[("cpu", options)])  # type: ignore[list-item]


def test_load_takes_paths_of_either_kind(tiny_token_pair: Pair, tmp_path: Path) -> None:
    with NudgedLM.load(str(tiny_token_pair.bundle), threads=np.int64(1), cache_mib=0, cache_dir=str(tmp_path)) as lm:  # type: ignore[arg-type]
        assert lm.providers["base"] == "cpu"
