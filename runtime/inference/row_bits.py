"""Finds out which passes give a row the same bits, where the model runs: for this graph, runtime and processor.

ONNX Runtime chooses kernels by the number of rows of a pass, and which it has depends on the instruction set: four-bit
products of one row and of several agree to the last bit with AVX-512 and do not with AVX2. A few tokens are read
together and in smaller passes, in the ways in which a decoder would, and all that a pass says of them is compared.
`docs/decoding.md` has the passes, so that a memory in another language can ask the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast, get_args

import numpy as np

from nudge_onnx.errors import ProviderError

from ..sessions.model_session import ModelSession, RowBits
from .decoder import Decoder
from .outputs import HeadOutputs, LogitsOutputs, Outputs, Rows
from .row_memory import RowMemory

__all__ = ["Probe", "find_row_bits", "remembered_row_bits", "share_bits"]

# Where sums are rounded to eight bits again, sums that differ may give one number; a small model has so few of them
# that whole rows agree by chance. Its passes cost next to nothing, so it is asked in more rounds: as many as read so
# many weights in all.
_MOST_ROUNDS = 24
_WEIGHTS_OF_ROUNDS = 5_000_000
# Kernels take one, two, three, four, six, eight or twelve rows at a time, and what is left over by fewer: sizes that
# end in each of these, read one behind the other, and all of them in one pass.
_SIZES = (1, 2, 3, 5)
# Libraries for GPUs choose by tens of rows too, and there a pass of tens costs hardly more than one of a single row.
_MORE_SIZES = (16, 37)
_MORE_PLACES = ((0, _MORE_SIZES), (0, _SIZES), (509, _SIZES))
# On an H200 a pass of eight rows took 1.8 times one of a single row with 135 and 270 million weights, where launching
# kernels is most of it, and 1.0 to 1.3 times with the matrices of a model of 8 billion. Reading ahead gains 1.5 times.
_WEIGHTS_OF_EIGHTS = 1_000_000_000
# Attention adds up positions in blocks of 128, of which the last may be more or less than half full: behind so many
# positions a few rows lie on both sides of 128, and of 192.
_PLACES = ((126, _SIZES), (190, (1, 2)))


class Probe(Decoder):
    """A decoder over a made-up past, all of whose outputs are read at once."""

    def __init__(self, model: ModelSession) -> None:
        super().__init__(model)
        # A recorded pass runs the same kernels, and its memory would outlive this decoder.
        self._captured = None

    def begin(self, past: int) -> None:
        """Start behind `past` positions of noise: reading as many ids would take long."""
        self._bound.clear()
        self.cache.pretend(past)
        self._ids = [0] * past

    def _outputs(self) -> Outputs:
        return _AllOutputs(self.model) if self.has_head else LogitsOutputs(self.model)


class _AllOutputs:
    """Logits, and behind them in each row what the uncertainty head says of it."""

    def __init__(self, model: ModelSession) -> None:
        self._logits, self._head = LogitsOutputs(model), HeadOutputs(model)
        self.binding: Any = self._logits.binding
        self._head.binding = self.binding

    def bind(self, rows: int) -> None:
        """Bind room for so many rows of either."""
        self._logits.bind(rows)
        self._head.bind(rows)

    def take(self, first: int, last: int) -> Rows:
        """One array; ids are small enough to be exact in it."""
        head = np.array(self._head.take(first, last), np.float32).reshape(last - first, -1)
        return np.concatenate([np.asarray(self._logits.take(first, last)), head], axis=1)

    @property
    def nbytes(self) -> int:
        """Bytes of both."""
        return self._logits.nbytes + self._head.nbytes


def remembered_row_bits(model: ModelSession, memory: RowMemory) -> RowBits:
    """The answer of `memory`, or a new one that it keeps."""
    known = memory.get("rows")
    if known in get_args(RowBits):
        return cast(RowBits, known)
    try:
        found = find_row_bits(model)
    except (ProviderError, MemoryError):
        return "none"  # the safe answer; whatever it was will be said when the model is used
    memory.put("rows", found)
    return found


def find_row_bits(model: ModelSession) -> RowBits:
    """Ask the graph itself; raises `ProviderError` if it cannot run."""
    if "window-attention" in model.record.passes and model.record.windows is None:
        return "none"  # exported when manifests did not say where such attention changes
    # Products of floats inside attention never take a row by itself, even where the few that are tried should agree.
    ways: list[RowBits] = ["all", "pairs"] if model.record.cache.dtype == "int8" else ["pairs"]
    large = (model.record.parameters or 0) >= _WEIGHTS_OF_EIGHTS
    if model.provider != "cpu" and large and not model.record.windows:
        ways.append("eights")
    return next((way for way in ways if share_bits(replace(model, rows=way))), "none")


def share_bits(model: ModelSession) -> bool:
    """Whether a row has the same bits in all passes that `model.rows` allows.

    Raises `ProviderError` if the graph cannot run.
    """
    probe = Probe(model)
    rounds = min(_MOST_ROUNDS, _WEIGHTS_OF_ROUNDS // (model.record.parameters or _WEIGHTS_OF_ROUNDS))
    places = [*_PLACES, *[(0, _SIZES)] * rounds]
    if model.provider != "cpu":
        places += _MORE_PLACES
    fitting = [(past, sizes) for past, sizes in places if past + sum(sizes) <= probe.context_length]
    return bool(fitting) and all(
        _agrees(probe, past, sizes, first=1 + 257 * number) for number, (past, sizes) in enumerate(fitting)
    )


def _agrees(probe: Probe, past: int, sizes: Sequence[int], first: int) -> bool:
    """Whether ids behind `past` positions, of which one is `first`, say the same in passes of these sizes as in one."""
    ids = [(first + 7919 * at) % probe.model.record.vocabulary_size for at in range(sum(sizes))]
    probe.begin(past)
    together = np.asarray(probe.feed(ids, len(ids))).copy()
    probe.rewind(past)
    at = 0
    for size in sizes:
        found = np.asarray(probe.feed(ids[at : at + size], size))
        if not np.array_equal(found, together[at : at + size]):
            return False
        at += size
    return True
