"""KV caches: one that an in-place graph writes into, and one that grows by what a plain graph returns."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from nudge_onnx.bundle import Cache, ModelRecord

from ..sessions.model_session import ModelSession
from ..sessions.providers import onnxruntime
from .slicing import keep_positions

__all__ = ["GrowingCache", "InPlaceCache", "KVCache", "cache_names", "make_cache", "most_bytes"]

_FIRST_CAPACITY = 256


class KVCache(Protocol):
    """Keys and values of `length` positions, bound to a session's inputs and outputs for each pass."""

    length: int

    def reserve(self, new: int) -> bool:
        """Make room for a pass over `new` more positions; returns whether earlier bindings are of no use any more."""

    def bind(self, binding: Any) -> None:
        """Bind past and present for a pass."""

    def unbind(self) -> None:
        """Forget all bindings."""

    def advance(self, binding: Any, new: int) -> None:
        """Take over what the pass wrote."""

    def rewind(self, length: int) -> None:
        """Forget all positions from `length` on."""

    def pretend(self, length: int) -> None:
        """Hold `length` positions of noise, as if they had been read."""

    @property
    def nbytes(self) -> int:
        """Bytes of memory held."""


def make_cache(model: ModelSession, limit: int) -> KVCache:
    """The cache that suits a graph; `limit` is the most positions it will ever hold."""
    return InPlaceCache(model, limit) if model.record.cache.kind == "in_place" else GrowingCache(model)


def most_bytes(record: ModelRecord, positions: int) -> int:
    """Bytes of a model's cache for a text of so many positions, or of its whole context."""
    positions = min(positions, record.context_length)
    if record.cache.kind == "in_place":
        positions = InPlaceCache.capacity_within(record.context_length, positions)
    return positions * record.cache.position_bytes


def cache_names(model: ModelSession) -> list[tuple[str, str]]:
    """Names of past and present of keys and values, layer by layer."""
    io = model.record.io
    pairs = []
    for layer in range(model.record.cache.layers):
        pairs.append((io.past_key.format(layer=layer), io.present_key.format(layer=layer)))
        pairs.append((io.past_value.format(layer=layer), io.present_value.format(layer=layer)))
    return pairs


def _noise(shape: Cache, positions: int, count: int, place: tuple[str, int]) -> list[Any]:
    """`count` tensors of so many positions, all of one noise: zeros would hide in which order they are added up."""
    size = (1, shape.kv_heads, positions, shape.head_size)
    random = np.random.default_rng(0)
    codes = shape.dtype == "int8"
    noise = random.integers(-100, 101, size) if codes else random.standard_normal(size)
    return [onnxruntime().OrtValue.ortvalue_from_numpy(noise.astype(shape.dtype), *place) for _ in range(count)]


class InPlaceCache:
    """One buffer a tensor, bound as past and as present: a step copies nothing and a rewind is a number.

    Capacity doubles up to `limit` positions, so a short conversation never pays for the model's whole context.
    """

    def __init__(self, model: ModelSession, limit: int) -> None:
        self.length = 0
        self._names = cache_names(model)
        self._shape = model.record.cache
        self._place = (model.device, model.device_id)
        self._limit = limit
        self.capacity = 0
        """Positions that there is room for."""
        self._bound: list[Any] = []
        self._lent: list[Any] | None = None
        self.buffers: list[Any] = []
        """OrtValues [1, kv_heads, capacity, head_size], key and value of each layer in turn."""

    def reserve(self, new: int) -> bool:
        """Grow the buffers if they must be; the old ones live on in bindings that are not dropped."""
        needed = self.length + new
        if needed <= self.capacity:
            return False
        self._grow(needed)
        return True

    def bind(self, binding: Any) -> None:
        """Bind the buffers; a binding keeps them from pass to pass."""
        if all(known is not binding for known in self._bound):
            for (past, present), buffer in zip(self._names, self.buffers, strict=True):
                binding.bind_ortvalue_input(past, buffer)
                binding.bind_ortvalue_output(present, buffer)
            self._bound.append(binding)

    def capacity_for(self, positions: int) -> int:
        """The capacity that a cache has which never held more than `positions`."""
        return self.capacity_within(self._limit, positions)

    @classmethod
    def capacity_within(cls, limit: int, positions: int) -> int:
        """`capacity_for` of a cache that will never hold more than `limit`."""
        return max(positions, next((one for one in _capacities(limit) if one >= positions), limit))

    def capacities(self) -> list[int]:
        """The capacities before the last, ascending."""
        return _capacities(self._limit)

    def copy_to(self, buffers: list[Any]) -> None:
        """Copy what is held to other buffers of the host with room for it."""
        for fresh, old in zip(buffers, self.buffers if self.length else (), strict=self.length > 0):
            fresh.numpy()[:, :, : self.length] = old.numpy()[:, :, : self.length]

    def take(self, buffers: list[Any], capacity: int) -> None:
        """Go on in buffers that others made and may take part in, and that hold already what this cache holds.

        Once it needs more room it moves to buffers of its own.
        """
        self._bound.clear()
        self.buffers, self.capacity, self._lent = buffers, capacity, buffers

    def leave(self, buffers: list[Any]) -> None:
        """Move out of `buffers`, if these are what it has, to buffers of its own."""
        if self.buffers is buffers:
            self._grow(self.length)

    def unbind(self) -> None:
        """Let bindings go that are not used any more."""
        self._bound.clear()

    def advance(self, _binding: Any, new: int) -> None:
        """Count what the pass wrote in place."""
        self.length += new

    def rewind(self, length: int) -> None:
        """Forget all positions from `length` on: a later pass writes over them."""
        self.length = min(self.length, length)

    def pretend(self, length: int) -> None:
        """Put noise into all buffers."""
        self.length = 0
        self.reserve(length)
        self._bound.clear()
        self.buffers = _noise(self._shape, self.capacity, len(self._names), self._place)
        self.length = length

    @property
    def nbytes(self) -> int:
        """Bytes of the buffers at their capacity; in memory of others, at the capacity that it would have by itself."""
        capacity = self.capacity_for(self.length) if self.buffers is self._lent else self.capacity
        return capacity * self._shape.position_bytes

    def _grow(self, needed: int) -> None:
        # What is bound so far is of no use any more, whether or not there is memory for more.
        self._bound.clear()
        capacity = self.capacity_for(needed)
        shape = (1, self._shape.kv_heads, capacity, self._shape.head_size)
        old = self.buffers if self.length else [None] * len(self._names)
        # The old ones stay until all of the new ones are there: an error or an interrupt in between costs nothing.
        grown = [self._buffer(shape, buffer) for buffer in old]
        self.buffers, self.capacity, self._lent = grown, capacity, None

    def _buffer(self, shape: tuple[int, ...], old: Any) -> Any:
        """A buffer that begins with the `length` positions of `old`, and has zeros behind them.

        A kernel may multiply what lies behind by zero, and a device's memory holds whatever was there.
        """
        ortvalue = onnxruntime().OrtValue
        fresh = np.zeros(shape, self._shape.dtype)
        if old is not None:
            # From a device this goes through the host; capacity doubles, so it happens a few times in all.
            fresh[:, :, : self.length] = old.numpy()[:, :, : self.length]
        return ortvalue.ortvalue_from_numpy(fresh, *self._place)


def _capacities(limit: int) -> list[int]:
    """Those before `limit` that caches double through."""
    capacities = [_FIRST_CAPACITY]
    while 2 * capacities[-1] < limit:
        capacities.append(2 * capacities[-1])
    return [capacity for capacity in capacities if capacity < limit]


class GrowingCache:
    """For a graph whose present is past plus new: each pass hands its outputs on as the next inputs."""

    def __init__(self, model: ModelSession) -> None:
        self.length = 0
        self._names = cache_names(model)
        self._shape = model.record.cache
        self._place = (model.device, model.device_id)
        self._values = self._empty()

    def reserve(self, _new: int) -> bool:
        """Each pass allocates what it returns."""
        return False

    def bind(self, binding: Any) -> None:
        """Bind what the last pass returned, and let the next one allocate its own."""
        for (past, present), value in zip(self._names, self._values, strict=True):
            binding.bind_ortvalue_input(past, value)
            binding.bind_output(present, *self._place)

    def unbind(self) -> None:
        """Nothing: each pass binds anew."""

    def advance(self, binding: Any, new: int) -> None:
        """Keep what the pass returned."""
        # A binding returns outputs in the order they were first bound, and a decoder binds its cache before its logits.
        values = binding.get_outputs()[: len(self._names)]
        self._values, self.length = values, self.length + new

    def rewind(self, length: int) -> None:
        """Copy what stands before `length`: these tensors have no spare room."""
        if length < self.length:
            kept = keep_positions(self._values, length, self._shape.dtype, *self._place) if length else self._empty()
            self._values, self.length = kept, length

    def pretend(self, length: int) -> None:
        """Hold noise as what the last pass returned."""
        self._values = _noise(self._shape, length, len(self._names), self._place)
        self.length = length

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors."""
        return self.length * self._shape.position_bytes

    def _empty(self) -> list[Any]:
        none = np.zeros((1, self._shape.kv_heads, 0, self._shape.head_size), self._shape.dtype)
        return [onnxruntime().OrtValue.ortvalue_from_numpy(none, *self._place) for _ in self._names]
