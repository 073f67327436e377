from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from nudge_onnx.errors import NudgeError
from nudge_onnx.runtime.choosing.sampling import Sampling, fresh_seed

LOGITS = np.log(np.array([0.4, 0.3, 0.15, 0.1, 0.05], np.float32))
DRAWS = 4000
# 99.9 % quantile of chi-square with 4 degrees of freedom; the seeds are fixed, so it passes always or never.
LIMIT = 18.47


def draw(sampling: Sampling, logits: np.ndarray = LOGITS, count: int = DRAWS) -> np.ndarray:
    tokens = Counter(sampling.choose(logits, position, []) for position in range(count))
    return np.array([tokens[i] for i in range(len(logits))])


def chi_square(counts: np.ndarray, expected: np.ndarray) -> float:
    expected = expected / expected.sum() * counts.sum()
    return float(((counts - expected) ** 2 / expected).sum())


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_the_distribution_is_the_softmax_at_that_temperature(temperature: float) -> None:
    expected = np.exp(LOGITS / temperature)
    assert chi_square(draw(Sampling(temperature=temperature, seed=3)), expected) < LIMIT


def test_filters_keep_what_they_say_and_renormalise() -> None:
    assert np.flatnonzero(draw(Sampling(temperature=1, top_k=2))).tolist() == [0, 1]
    assert np.flatnonzero(draw(Sampling(temperature=1, top_p=0.8))).tolist() == [0, 1, 2]
    assert np.flatnonzero(draw(Sampling(temperature=1, min_p=0.3))).tolist() == [0, 1, 2]
    kept = draw(Sampling(temperature=1, top_k=3, seed=1))[:3]
    assert chi_square(kept, np.array([0.4, 0.3, 0.15])) < LIMIT


def test_top_p_of_a_large_vocabulary_is_the_same_as_with_a_full_sort() -> None:
    logits = np.random.default_rng(0).normal(0, 0.1, 5000).astype(np.float32)
    order = np.argsort(-logits)
    mass = np.cumsum(np.exp(logits[order].astype(np.float64)))
    nucleus = set(order[: int(np.searchsorted(mass, 0.7 * mass[-1])) + 1].tolist())
    sampling = Sampling(temperature=1, top_p=0.7)
    assert set(sampling.kept(logits).tolist()) == nucleus


def test_one_seed_gives_one_answer_whatever_was_asked_before() -> None:
    sampling = Sampling(temperature=1, seed=5)
    forward = [sampling.choose(LOGITS, position, []) for position in range(50)]
    backward = [sampling.choose(LOGITS, position, []) for position in reversed(range(50))]
    assert forward == backward[::-1]
    assert forward != [Sampling(temperature=1, seed=6).choose(LOGITS, position, []) for position in range(50)]


def test_two_models_that_nearly_agree_nearly_always_draw_the_same_token() -> None:
    other = np.log(np.array([0.38, 0.32, 0.15, 0.1, 0.05], np.float32))
    sampling = Sampling(temperature=1, seed=2)
    same = np.mean([sampling.choose(LOGITS, i, []) == sampling.choose(other, i, []) for i in range(DRAWS)])
    distance = 0.02
    # Two independent draws would agree on 29 % of positions; the coupling promises (1 - d) / (1 + d).
    assert same >= (1 - distance) / (1 + distance) - 0.02


def test_repetition_penalty_lowers_what_was_said() -> None:
    logits = np.array([2.0, 1.9, -1.0], np.float32)
    assert Sampling(repetition_penalty=1.2).choose(logits, 0, [0]) == 1
    assert Sampling(repetition_penalty=1.2).choose(logits, 0, [1, 2]) == 0
    assert logits.tolist() == [2.0, pytest.approx(1.9), -1.0]


@pytest.mark.parametrize("temperature", [1e-38, 1e-45, 1e-300])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_temperature_too_low_to_divide_by_is_greedy(temperature: float, sign: int) -> None:
    logits = sign * np.array([3.0, 1.0, 5.0, 4.0], np.float32)
    assert Sampling(temperature=temperature, top_p=0.9, min_p=0.1).choose(logits, 0, []) == int(logits.argmax())
    if temperature < 1e-40:
        assert Sampling(temperature=temperature).choose(logits - logits.max(), 0, []) == int(logits.argmax())


def test_every_seed_has_noise_of_its_own() -> None:
    seeds = (0, 1, 2**32, 2**63 - 1, 2**63, 2**63 + 1, 2**63 + 500, 2**64 - 1)
    flat = np.zeros(1000, np.float32)
    drawn = {tuple(Sampling(temperature=1, seed=seed).choose(flat, i, []) for i in range(4)) for seed in seeds}
    assert len(drawn) == len(seeds)


def test_without_a_seed_each_answer_gets_one() -> None:
    sampling = Sampling(temperature=1, seed=None)
    assert sampling.with_seed(7) == Sampling(temperature=1, seed=7)
    assert Sampling(seed=3).with_seed(7).seed == 3
    assert len({fresh_seed() for _ in range(8)}) == 8


@pytest.mark.parametrize("name", ["temperature", "top_k", "top_p", "min_p", "repetition_penalty", "seed"])
@pytest.mark.parametrize("bad", ["1", True, -1, float("nan"), float("inf"), 1j, [1], 10**400])
def test_a_value_out_of_range_is_named(name: str, bad: object) -> None:
    with pytest.raises(NudgeError, match=f"^{name} must be an? (number|integer) .*, not ") as error:
        Sampling(**{name: bad})  # type: ignore[arg-type]
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "bad",
    [
        {"top_p": 0},
        {"top_p": 1.5},
        {"min_p": 2},
        {"top_k": 2.5},
        {"top_k": None},
        {"repetition_penalty": 0},
        {"seed": 2**64},
        {"seed": 1.0},
    ],
)
def test_the_ends_of_ranges(bad: dict[str, float]) -> None:
    with pytest.raises(NudgeError, match=next(iter(bad))):
        Sampling(**bad)  # type: ignore[arg-type]


def test_numbers_of_numpy_are_numbers() -> None:
    sampling = Sampling(temperature=np.float32(0.5), top_k=np.int64(3), seed=np.uint64(2**64 - 1))  # type: ignore[arg-type]
    assert sampling == Sampling(temperature=0.5, top_k=3, seed=2**64 - 1)
    assert type(sampling.top_k) is int
