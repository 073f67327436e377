"""Slots: the caches of several texts side by side in one buffer a tensor, as a pass over a batch wants them.

A cache moves into a slot when its text first shares a pass, and out of it when its answer has ended. In between all its
passes read and write it there, those of several rows too.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..inference.cache import InPlaceCache
from ..inference.edges import whole_reach
from ..sessions.model_session import ModelSession
from ..sessions.providers import onnxruntime
from ..system.pages import sparse_zeros

__all__ = ["Slots"]

# A text that shared none of so many passes has a caller who takes his time, and leaves its slot to others.
_UNUSED = 64
# Bytes a second at which caches move, and the passes of a text before it waits for the other model or ends.
_COPIED = 2e9
_PASSES = 3


@dataclass
class _Slot:
    """Where one text's cache may lie, and the cache that lies there."""

    buffers: list[Any]
    """OrtValues [1, kv_heads, capacity, head_size] of each tensor."""
    cache: weakref.ref[InPlaceCache] | None = None
    unused: int = 0
    """Passes since its text took part in one."""

    @property
    def owner(self) -> InPlaceCache | None:
        """The cache, as long as that is neither gone nor elsewhere: one that grows moves by itself."""
        found = self.cache() if self.cache is not None else None
        return found if found is not None and found.buffers is self.buffers else None


class Slots:
    """Room for the caches of `count` texts of one model. Its methods may be called by any thread.

    While a pass runs nobody may call `seat`.
    """

    def __init__(self, model: ModelSession, count: int) -> None:
        self._shape = model.record.cache
        self._position_bytes = model.record.cache.position_bytes
        self._limit = whole_reach(model.record)
        # Some to spare: where texts change their places, one has to go first.
        self._count = count + max(2, count // 2)
        self._lock = threading.Lock()
        self._slots: list[_Slot] = []
        self.capacity = 0
        """Positions of each slot."""
        self.tensors: npt.NDArray[Any] = np.empty(0)
        """Keys and values of each layer in turn, [tensors, slots, kv_heads, capacity, head_size]."""

    def seat(self, caches: Sequence[InPlaceCache], row_seconds: float = 0.0) -> list[int]:
        """The slots of these caches, each with room for one more position; they move where they must.

        A pass over them reads a row of whatever lies between, at the cost of `row_seconds`; caches move together
        where that costs more than moving. Every slot has room for such a row, which is behind what it holds.
        """
        with self._lock:
            wanted = {id(cache) for cache in caches}
            self._grow(max(cache.length for cache in caches) + 1)
            for slot in self._slots:
                slot.unused += 1
                owner = slot.owner
                if owner is None or id(owner) in wanted:
                    continue
                if slot.unused > _UNUSED or owner.length >= self.capacity:
                    owner.leave(slot.buffers)
            for cache in caches:
                if self._slot_of(cache) is None:
                    self._enter(cache, self._free(wanted))
            self._close_gaps(wanted, row_seconds)
            found = [self._slot_of(cache) for cache in caches]
            places = [place for place in found if place is not None]
            for place in places:
                self._slots[place].unused = 0
            return places

    def lengths(self, first: int, count: int) -> list[int]:
        """How many positions each of some slots in a row holds."""
        owners = [slot.owner for slot in self._slots[first : first + count]]
        return [owner.length if owner is not None else 0 for owner in owners]

    def leave(self, cache: InPlaceCache) -> None:
        """Move a cache out, if it is here."""
        with self._lock:
            place = self._slot_of(cache)
            if place is not None:
                cache.leave(self._slots[place].buffers)
            if all(slot.owner is None for slot in self._slots):
                self._slots, self.tensors, self.capacity = [], np.empty(0), 0

    def _slot_of(self, cache: InPlaceCache) -> int | None:
        return next((place for place, slot in enumerate(self._slots) if slot.owner is cache), None)

    def _enter(self, cache: InPlaceCache, place: int) -> None:
        cache.copy_to(self._slots[place].buffers)
        self._take(cache, place, 0)

    def _free(self, wanted: set[int]) -> int:
        """The first free slot, if need be the one whose text has not taken part for longest."""
        free = next((place for place, slot in enumerate(self._slots) if slot.owner is None), None)
        if free is not None:
            return free
        others = [place for place, slot in enumerate(self._slots) if id(slot.owner) not in wanted]
        place = max(others, key=lambda place: self._slots[place].unused)
        owner = self._slots[place].owner
        if owner is not None:
            owner.leave(self._slots[place].buffers)
        return place

    def _close_gaps(self, wanted: set[int], row_seconds: float) -> None:
        """Move the wanted caches into slots in a row, if that is worth its while."""
        held = [(slot.owner.length if slot.owner is not None else 0) for slot in self._slots]
        ours = [place for place, slot in enumerate(self._slots) if id(slot.owner) in wanted]
        gaps = ours[-1] + 1 - ours[0] - len(ours)
        if not gaps:
            return

        def moved(first: int) -> int:
            """Positions to copy for a row of slots that begins here."""
            row = range(first, first + len(ours))
            return sum(held[place] for place in {*row} ^ {*ours})

        first = min(range(len(held) - len(ours) + 1), key=moved)
        if moved(first) * self._position_bytes / _COPIED > _PASSES * gaps * row_seconds:
            return
        row = range(first, first + len(ours))
        free = [place for place, slot in enumerate(self._slots) if slot.owner is None and place not in row]
        strangers = [place for place in row if self._slots[place].owner is not None and place not in ours]
        if len(strangers) > len(free):
            return
        for place, other in zip(strangers, free, strict=False):
            self._move(place, other)
        empty = [place for place in row if place not in ours]
        for place, other in zip([place for place in ours if place not in row], empty, strict=True):
            self._move(place, other)

    def _move(self, place: int, other: int) -> None:
        """Move a cache from one slot to another."""
        slot, owner = self._slots[place], self._slots[place].owner
        if owner is not None:
            self.tensors[:, other, :, : owner.length] = self.tensors[:, place, :, : owner.length]
            self._take(owner, other, slot.unused)

    def _take(self, cache: InPlaceCache, place: int, unused: int) -> None:
        slot = self._slots[place]
        cache.take(slot.buffers, self.capacity)
        slot.cache, slot.unused = weakref.ref(cache), unused

    def _grow(self, needed: int) -> None:
        """Have all slots of `needed` positions at the least; caches move with them."""
        if self._slots and needed <= self.capacity:
            return
        capacity = InPlaceCache.capacity_within(self._limit, needed)
        shape = (2 * self._shape.layers, self._count, self._shape.kv_heads, capacity, self._shape.head_size)
        tensors = sparse_zeros(shape, self._shape.dtype)
        ortvalue = onnxruntime().OrtValue
        slots = [
            _Slot([ortvalue.ortvalue_from_numpy(tensor[place : place + 1]) for tensor in tensors])
            for place in range(self._count)
        ]
        before, self._slots, self.tensors, self.capacity = self._slots, slots, tensors, capacity
        for place, slot in enumerate(before):
            owner = slot.owner
            if owner is not None:
                owner.copy_to(slots[place].buffers)
                self._take(owner, place, slot.unused)
