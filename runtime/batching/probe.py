"""Finds out, where a model runs, whether a row has the same bits in a pass over several texts as alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nudge_onnx.errors import ProviderError

from ..inference.edges import whole_reach
from ..inference.row_bits import Probe
from ..inference.row_memory import RowMemory
from ..sessions.model_session import ModelSession
from .batch import Batch

__all__ = ["batches_agree", "remembered_batches"]

# Products take one, two, three, four, six or eight rows at a time, and what is left over by fewer; attention adds up
# positions in blocks of 128, of which the last may be more or less than half full. All texts at once, and some of them:
# a pass reads what lies between these, too.
_PASTS = (5, 126, 0, 64, 31, 190, 129, 77)
_TOGETHER = ((0, 1, 2), (0, 3), (1, 2, 3, 4, 5))


def remembered_batches(model: ModelSession, memory: RowMemory) -> bool:
    """The answer of `memory`, or a new one that it keeps."""
    known = memory.get("batches")
    if isinstance(known, bool):
        return known
    try:
        found = batches_agree(model)
    except (ProviderError, MemoryError):
        return False  # the safe answer; whatever it was will be said when the model is used
    memory.put("batches", found)
    return found


def batches_agree(model: ModelSession) -> bool:
    """Ask the graph itself; raises `ProviderError` if it cannot run."""
    codes = model.record.cache.kind == "in_place" and model.record.cache.dtype == "int8"
    if model.provider != "cpu" or not codes or model.rows not in ("all", "pairs"):
        # Attention over floats multiplies the rows of a pass as one matrix, and one text's alone.
        return False
    pasts = [past for past in _PASTS if past < whole_reach(model.record)]
    if len(pasts) < 2:
        return False
    batch = Batch(model, len(pasts))
    probes = [Probe(model) for _ in pasts]
    ids = [(1 + 7919 * number) % model.record.vocabulary_size for number in range(len(pasts))]
    alone = []
    for probe, past, token in zip(probes, pasts, ids, strict=True):
        probe.begin(past)
        alone.append(np.array(probe.feed([token])))
    vocabulary = model.record.vocabulary_size

    def agree(numbers: Sequence[int], *, head: bool) -> bool:
        for number in numbers:
            probes[number].rewind(pasts[number])
            probes[number].read(head=head)
        found = batch.run([probes[number] for number in numbers], [ids[number] for number in numbers])
        part = slice(vocabulary, None) if head else slice(vocabulary)
        return all(
            np.array_equal(np.asarray(row, np.float32), alone[number][:, part])
            for number, row in zip(numbers, found, strict=True)
        )

    every = range(len(pasts))
    heads = [False, True] if probes[0].has_head else [False]
    some = [[number for number in numbers if number in every] for numbers in _TOGETHER]
    return all(agree(every, head=head) for head in heads) and all(agree(numbers, head=False) for numbers in some)
