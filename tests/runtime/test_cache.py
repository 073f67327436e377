"""Caches of both kinds hold what was fed, through growth and rewinds, and lie where the model runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from nudge_onnx.bundle import Bundle
from nudge_onnx.runtime.inference import cache as caches
from nudge_onnx.runtime.inference import slicing
from nudge_onnx.runtime.inference.cache import GrowingCache, InPlaceCache
from nudge_onnx.runtime.inference.opening import open_model
from nudge_onnx.runtime.sessions.model_session import ModelSession

BUNDLE = Path(__file__).parent.parent / "conformance" / "bundles" / "word"


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_kept_positions_are_the_first_ones_of_every_tensor(dtype: str) -> None:
    numbers = np.random.default_rng(1)
    arrays = [numbers.standard_normal((1, heads, 9, 4)).astype(dtype) for heads in (1, 3)]
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in arrays]
    for length in (1, 5, 9):
        for kept, array in zip(slicing.keep_positions(values, length, dtype, "cpu", 0), arrays, strict=True):
            np.testing.assert_array_equal(kept.numpy(), array[:, :, :length])


def test_the_graph_that_keeps_positions_is_valid() -> None:
    model = onnx.load_from_string(slicing.slicing_graph(130, 1))
    onnx.checker.check_model(model, full_check=True)
    assert len(model.graph.node) == 130


@pytest.fixture
def graph() -> ModelSession:
    return open_model(Bundle.open(BUNDLE), "base", ["cpu"])


class Binding:
    """Notes what a cache binds, and where."""

    def __init__(self) -> None:
        self.inputs: dict[str, Any] = {}
        self.outputs: dict[str, Any] = {}

    def bind_ortvalue_input(self, name: str, value: Any) -> None:
        self.inputs[name] = value

    def bind_ortvalue_output(self, name: str, value: Any) -> None:
        self.outputs[name] = value

    def bind_output(self, name: str, device: str, device_id: int) -> None:
        self.outputs[name] = (device, device_id)


def test_an_in_place_cache_makes_room_for_what_is_asked_and_keeps_what_it_holds(graph: ModelSession) -> None:
    cache = InPlaceCache(graph, limit=600)
    binding = Binding()
    assert cache.reserve(200)
    cache.bind(binding)
    cache.advance(binding, 200)
    before = {}
    for name, value in binding.inputs.items():
        value.numpy()[:, :, :200] = np.random.default_rng(len(before)).standard_normal(value.numpy()[:, :, :200].shape)
        before[name] = value.numpy()[:, :, :200].copy()
        assert binding.outputs[name.replace("past_key_values", "present")] is value
    # Room for one more row than is kept: the pass is padded.
    assert cache.reserve(57)
    cache.bind(binding)
    assert {value.shape()[2] for value in binding.inputs.values()} == {512}
    cache.advance(binding, 56)
    assert not cache.reserve(200)
    assert cache.reserve(300)
    cache.bind(binding)
    assert {value.shape()[2] for value in binding.inputs.values()} == {600}
    for name, value in binding.inputs.items():
        np.testing.assert_array_equal(value.numpy()[:, :, :200], before[name])


@pytest.mark.parametrize("fails_at", range(4))
def test_a_cache_that_could_not_grow_holds_what_it_held_and_grows_later(
    graph: ModelSession, monkeypatch: pytest.MonkeyPatch, fails_at: int
) -> None:
    cache = InPlaceCache(graph, limit=600)
    binding = Binding()
    cache.reserve(200)
    cache.bind(binding)
    cache.advance(binding, 200)
    before = {}
    for number, (name, value) in enumerate(binding.inputs.items()):
        value.numpy()[:] = np.random.default_rng(number).standard_normal(value.shape())
        before[name] = value.numpy()[:, :, :200].copy()
    made = iter(range(len(before)))

    def zeros(*arguments: Any) -> np.ndarray:
        if next(made) == fails_at:
            raise MemoryError
        return np.empty(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(np, "zeros", zeros)
        with pytest.raises(MemoryError):
            cache.reserve(100)
    for new in (50, 100):
        cache.reserve(new)
        cache.bind(binding)
        for name, value in binding.inputs.items():
            np.testing.assert_array_equal(value.numpy()[:, :, :200], before[name])
            assert binding.outputs[name.replace("past_key_values", "present")] is value
    assert cache.capacity == 512


class Device:
    """Stands for a device's memory: notes what is allocated there, and keeps it on the host."""

    def __init__(self) -> None:
        self.made: list[tuple[str, str, int]] = []

    def ortvalue_from_shape_and_type(self, shape: Any, dtype: Any, device: str, device_id: int) -> Any:
        self.made.append(("allocated", device, device_id))
        return onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros(shape, dtype))

    def ortvalue_from_numpy(self, array: Any, device: str, device_id: int) -> Any:
        self.made.append(("copied", device, device_id))
        return onnxruntime.OrtValue.ortvalue_from_numpy(array)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    made = Device()
    monkeypatch.setattr(caches, "onnxruntime", lambda: type("ort", (), {"OrtValue": made}))
    return made


def test_buffers_on_a_device_hold_what_the_host_gave_them(graph: ModelSession, device: Device) -> None:
    tensors = 2 * graph.record.cache.layers
    cache = InPlaceCache(replace(graph, provider="cuda", device_id=1), limit=1000)
    binding = Binding()
    cache.reserve(20)
    cache.bind(binding)
    cache.advance(binding, 20)
    assert device.made == [("copied", "cuda", 1)] * tensors
    cache.reserve(300)
    cache.bind(binding)
    assert device.made[tensors:] == [("copied", "cuda", 1)] * tensors


@pytest.mark.usefixtures("device")
def test_what_a_growing_cache_gets_back_stays_on_the_device(
    graph: ModelSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    places: list[tuple[str, int]] = []
    monkeypatch.setattr(caches, "keep_positions", lambda values, *rest: places.append(rest[2:]) or list(values))
    cache = GrowingCache(replace(graph, provider="tensorrt", device_id=2))
    binding = Binding()
    cache.bind(binding)
    assert set(binding.outputs.values()) == {("cuda", 2)}
    binding.get_outputs = lambda: list(binding.inputs.values())  # type: ignore[attr-defined]
    cache.advance(binding, 3)
    cache.rewind(2)
    assert places == [("cuda", 2)]
    assert cache.length == 2


def test_a_device_id_among_the_options_is_the_device_of_the_cache() -> None:
    assert open_model(Bundle.open(BUNDLE), "base", [("cpu", {"device_id": 3})]).device_id == 3
