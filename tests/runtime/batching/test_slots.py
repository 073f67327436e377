"""Slots: where caches lie beside each other, and that what they hold moves with them."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest

from nudge_onnx import Bundle
from nudge_onnx.runtime.batching.slots import Slots
from nudge_onnx.runtime.inference.cache import InPlaceCache
from nudge_onnx.runtime.inference.opening import open_model
from nudge_onnx.runtime.sessions.model_session import ModelSession


@pytest.fixture(scope="module")
def model(codes: Path) -> ModelSession:
    return open_model(Bundle.open(codes), "nudge", ["cpu"], threads=1)


def held(cache: InPlaceCache) -> list[np.ndarray]:
    return [buffer.numpy()[:, :, : cache.length].copy() for buffer in cache.buffers]


def filled(model: ModelSession, length: int, seed: int) -> tuple[InPlaceCache, list[np.ndarray]]:
    cache = InPlaceCache(model, model.record.context_length)
    cache.reserve(length)
    random = np.random.default_rng(seed)
    for buffer in cache.buffers:
        part = buffer.numpy()[:, :, :length]
        part[:] = random.integers(-100, 100, part.shape)
    cache.advance(None, length)
    return cache, held(cache)


def same(cache: InPlaceCache, wanted: list[np.ndarray]) -> bool:
    return all(np.array_equal(one, other) for one, other in zip(held(cache), wanted, strict=True))


def test_caches_keep_what_they_hold_wherever_they_move(model: ModelSession) -> None:
    slots = Slots(model, 4)
    texts = [filled(model, length, length) for length in (3, 100, 17, 60)]
    caches = [cache for cache, _ in texts]
    assert slots.seat(caches) == [0, 1, 2, 3]
    assert slots.lengths(0, 4) == [3, 100, 17, 60]
    # Gaps are closed where a row costs more than a copy, and stay where it costs nothing.
    assert slots.seat([caches[0], caches[3]], row_seconds=0.0) == [0, 3]
    places = slots.seat([caches[0], caches[3]], row_seconds=1.0)
    assert abs(places[0] - places[1]) == 1
    places = slots.seat([caches[1], caches[0], caches[2]], row_seconds=1.0)
    assert max(places) - min(places) == 2
    assert all(same(*text) for text in texts)
    # More room for one is more room for all.
    caches[1].advance(None, 156)
    wanted = held(caches[1])
    assert len(set(slots.seat(caches))) == 4
    assert slots.capacity == 512
    assert same(caches[1], wanted)
    assert all(same(*text) for text in texts if text[0] is not caches[1])
    for cache in caches:
        slots.leave(cache)
    assert slots.tensors.size == 0
    assert all(same(*text) for text in texts if text[0] is not caches[1])


def test_a_cache_that_grows_leaves_its_slot(model: ModelSession) -> None:
    slots = Slots(model, 2)
    (first, wanted), (second, _) = filled(model, 200, 1), filled(model, 5, 2)
    slots.seat([first, second])
    assert first.reserve(200)
    assert slots.lengths(0, 2) == [0, 5]
    assert same(first, wanted)
    assert first.nbytes == first.capacity * model.record.cache.position_bytes


def test_a_cache_that_is_gone_leaves_its_slot(model: ModelSession) -> None:
    slots = Slots(model, 2)
    (first, _), (second, _) = filled(model, 20, 1), filled(model, 5, 2)
    slots.seat([first, second])
    del first
    gc.collect()
    assert slots.lengths(0, 2) == [0, 5]


def test_who_takes_no_part_for_long_makes_room(model: ModelSession) -> None:
    slots = Slots(model, 2)
    (paused, wanted), (other, _) = filled(model, 20, 1), filled(model, 5, 2)
    slots.seat([paused, other])
    for _ in range(100):
        slots.seat([other])
    assert slots.lengths(0, 2).count(0) == 1
    assert same(paused, wanted)


def test_more_texts_than_slots_take_turns(model: ModelSession) -> None:
    slots = Slots(model, 2)
    texts = [filled(model, 10 + seed, seed) for seed in range(7)]
    for at in range(20):
        pair = [texts[at % 7][0], texts[(at + 3) % 7][0]]
        assert len(set(slots.seat(pair, row_seconds=1.0))) == 2
    assert all(same(*text) for text in texts)


def test_a_cache_counts_what_it_would_take_by_itself(model: ModelSession) -> None:
    slots = Slots(model, 2)
    (long, _), (short, _) = filled(model, 400, 1), filled(model, 5, 2)
    before = short.nbytes
    slots.seat([long, short])
    assert short.nbytes == before
