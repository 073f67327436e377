"""Runs a finished graph layer by layer: one whose weights do not fit into memory can be measured so.

What is fed must be known beforehand. Each layer's weights are opened once, and all passes go through them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx

from nudge_onnx.bundle import Cache, GraphIO

from ..passes.graph_editor import GraphEditor, reads
from ..support.progress import Report, unheard
from .layers import Values, part_of, stages

__all__ = ["Feed", "run_layers"]


class Feed(NamedTuple):
    """One pass: what is appended to the cache, and the logits of how many of its last ids are wanted."""

    ids: Sequence[int]
    rows: int


def run_layers(
    path: Path, io: GraphIO, cache: Cache, texts: Sequence[Sequence[Feed]], report: Report = unheard
) -> list[list[npt.NDArray[np.float32]]]:
    """For each text the logits [rows, vocabulary] of each of its passes, read one behind the other on a cache."""
    graph = GraphEditor(onnx.load(path, load_external_data=False))
    windows = [_fed(io, cache, feeds) for feeds in texts]
    parts = list(stages(graph, [io.logits], graph.inputs))
    needed = [{name for node in nodes for name in reads(node)} for nodes in parts]
    for index, nodes in enumerate(parts):
        report(index, len(parts))
        later = set().union(*needed[index + 1 :], {io.logits})
        made = {name for node in nodes for name in node.output if name}
        read = needed[index] - made - {""}
        inputs = {name: windows[0][0][name] for name in read if name in windows[0][0]}
        kept = sorted(made & later)
        presents = sorted(name for name in made if name in _past_of(io, cache))
        constants = [graph.initializers[name] for name in read if name in graph.initializers]
        session = _session(part_of(graph, nodes, inputs, [*kept, *presents], constants), path.parent)
        for passes in windows:
            held: Values = {}
            for values in passes:
                feeds = {name: held.get(name, values[name]) for name in inputs}
                found = dict(zip([*kept, *presents], session.run([*kept, *presents], feeds), strict=True))
                held.update((_past_of(io, cache)[name], found[name]) for name in presents)
                values.update((name, found[name]) for name in kept)
                for name in [name for name in values if name not in later]:
                    # Caches of later layers stay, and what this one was given goes.
                    del values[name]
        del session
    return [
        [values[io.logits][0, -feed.rows :] for values, feed in zip(passes, feeds, strict=True)]
        for passes, feeds in zip(windows, texts, strict=True)
    ]


def _past_of(io: GraphIO, cache: Cache) -> dict[str, str]:
    """The input that each output of keys or values is for."""
    pairs = ((io.present_key, io.past_key), (io.present_value, io.past_value))
    return {
        present.format(layer=layer): past.format(layer=layer)
        for layer in range(cache.layers)
        for present, past in pairs
    }


def _fed(io: GraphIO, cache: Cache, feeds: Sequence[Feed]) -> list[Values]:
    """What the graph is given for each pass; the cache is empty in all, for a layer's own fills while it runs."""
    capacity = sum(len(feed.ids) for feed in feeds) if cache.kind == "in_place" else 0
    empty = np.zeros((1, cache.kv_heads, capacity, cache.head_size), cache.dtype)
    passes: list[Values] = []
    past = 0
    for feed in feeds:
        new, total = len(feed.ids), past + len(feed.ids)
        values: Values = {io.input_ids: np.array([feed.ids], np.int64)}
        if io.attention_mask:
            values[io.attention_mask] = np.ones((1, total), np.int64)
        if io.position_ids:
            values[io.position_ids] = np.arange(past, total, dtype=np.int64)[None]
        if io.logits_rows:
            values[io.logits_rows] = np.arange(new - feed.rows, new, dtype=np.int64)
        values |= dict.fromkeys(_past_of(io, cache).values(), empty)
        passes.append(values)
        past = total
    return passes


def _session(model: onnx.ModelProto, folder: Path) -> Any:
    """Beside the file of weights, which its initialisers name."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".part-", suffix=".onnx") as file:
        file.write(model.SerializeToString())
        file.flush()
        return ort.InferenceSession(file.name, options, providers=["CPUExecutionProvider"])
