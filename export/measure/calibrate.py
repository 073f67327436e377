"""What a graph computes while it reads a short text, for rounding by what counts.

A graph is run layer by layer: the weights of one are read, the whole text goes through them, then those of the next. So
memory is set by one layer and not by their number.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import helper

from ..passes.graph_editor import CONTRIB, GraphEditor, LazyModel, Model, Node, reads
from ..passes.int8_cache import cached_values, reach
from ..support.journal import NOWHERE, Arrays, Journal
from ..support.progress import Report, unheard
from ..weights import Floats, LazyTensor
from .layers import Values, part_of, stages

__all__ = ["WINDOW", "Calibration"]

WINDOW = 512
"""Tokens to read at once where a model's context has room for them."""


_NO_ROWS: Floats = np.empty((0, 0), np.float32)

_REACHED = "calibration"
"""The name in a journal of what is known behind the last layer that was read."""


@dataclass
class _State:
    """What is known behind so many layers."""

    windows: list[Values]
    layers: int = 0
    squares: dict[str, Any] = field(default_factory=dict)
    """Sums over the text of each channel's squares."""
    peaks: dict[str, Floats] = field(default_factory=dict)

    def kept(self) -> Arrays:
        """As a journal takes it."""
        arrays: Arrays = {"layers": np.array(self.layers)}
        for number, window in enumerate(self.windows):
            arrays |= {f"{number} {name}": array for name, array in window.items()}
        arrays |= {f"squares {name}": total for name, total in self.squares.items()}
        return arrays | {f"peaks {name}": peak for name, peak in self.peaks.items()}

    def restore(self, arrays: Arrays) -> None:
        """The state that was `kept`."""
        self.layers = int(arrays.pop("layers"))
        self.windows[:] = [{} for _ in self.windows]
        for key, array in arrays.items():
            kind, _, name = key.partition(" ")
            place: Any = {"squares": self.squares, "peaks": self.peaks}.get(kind)
            (self.windows[int(kind)] if place is None else place)[name] = array


@dataclass(frozen=True)
class Calibration:
    """A text that graphs read."""

    ids: Sequence[int]
    window: int = WINDOW
    """Tokens read at once, from an empty cache; at most the model's context."""
    journal: Journal = NOWHERE
    """Keeps what is known behind each layer; reading the same graph again goes on from there."""

    def observe(
        self, model: Model, values: Collection[str], peaks: dict[str, Floats] | None = None, report: Report = unheard
    ) -> Iterator[dict[str, Floats]]:
        """What the named values [..., hidden] hold, [tokens, hidden] each, layer by layer.

        `peaks` gets how far keys and values reach meanwhile (see `cache_peaks`). The model may be edited while it is
        read, as long as the edits are not swept. Of layers that a journal remembers, values hold no rows: what was to
        be made of them is in the journal as well.
        """
        graph = GraphEditor(
            LazyModel(model.proto, dict(model.lazy), model.data) if isinstance(model, LazyModel) else model
        )
        turned = cached_values(graph)
        state = _State([])
        if peaks is not None:
            state.peaks = peaks
        for made, windows in self._layers(graph, {*values, *turned}, state, report):
            seen: dict[str, list[Floats]] = {name: [] for name in sorted(made & set(values))}
            for arrays in windows:
                for name in seen:
                    seen[name].append(arrays[name].reshape(-1, arrays[name].shape[-1]))
                if peaks is not None:
                    _widen(peaks, arrays, turned)
            yield {name: np.concatenate(parts) if parts else _NO_ROWS for name, parts in seen.items()}

    def sizes(
        self, model: Model, values: Collection[str], report: Report = unheard
    ) -> tuple[dict[str, Floats], dict[str, Floats]]:
        """The root mean square of each channel of the named values [..., hidden], [hidden] each; and `cache_peaks`.

        Relative to the whole text: an expert of a mixture reads a part of it, and no other compares with its sizes.
        """
        graph = GraphEditor(model)
        turned = cached_values(graph)
        state = _State([])
        for _, windows in self._layers(graph, {*values, *turned}, state, report):
            for arrays in windows:
                for name in arrays.keys() & set(values):
                    rows = np.square(arrays[name], dtype=np.float64).reshape(-1, arrays[name].shape[-1])
                    state.squares[name] = state.squares.get(name, 0.0) + rows.sum(axis=0)
                _widen(state.peaks, arrays, turned)
        sizes = {name: np.sqrt(total / len(self.ids)).astype(np.float32) for name, total in state.squares.items()}
        return sizes, state.peaks

    def cache_peaks(self, model: Model, report: Report = unheard) -> dict[str, Floats]:
        """How far keys and values reach (see `int8_cache`), [heads, head_size] each.

        Empty for a graph whose attention is not one operator.
        """
        return self.sizes(model, (), report)[1]

    def _layers(
        self, graph: GraphEditor, values: set[str], state: _State, report: Report
    ) -> Iterator[tuple[set[str], Iterator[Values]]]:
        """For each layer, names of the values that it makes, and the values, window by window.

        Each iterator is to be read to its end. It has none for layers behind which the journal knows the `state`.
        """
        if not values:
            return
        known = state.windows
        known += [_fed(graph, self.ids[at : at + self.window]) for at in range(0, len(self.ids), self.window)]
        parts = list(stages(graph, values, known[0].keys()))
        needed = [{name for node in nodes for name in reads(node)} for nodes in parts]
        if (kept := self.journal.get(_REACHED)) is not None:
            state.restore(kept)
        for index, nodes in enumerate(parts):
            report(index, len(parts))
            made = {name for node in nodes for name in node.output} & values
            if index < state.layers:
                yield made, iter(())
                continue
            yield made, _run(graph, nodes, known, values, set().union(*needed[index + 1 :]))
            state.layers = index + 1
            if self.journal.keeps:
                self.journal.put(_REACHED, state.kept())


def _widen(peaks: dict[str, Floats], arrays: Mapping[str, Any], turned: Mapping[str, Any]) -> None:
    for name in arrays.keys() & turned.keys():
        found = reach(arrays[name][0], turned[name])
        peaks[name] = np.maximum(peaks.get(name, found), found)


def _fed(graph: GraphEditor, ids: Sequence[int]) -> Values:
    """What a graph is given for a text, and in place of large tables what they hold of it."""
    fed: Values = {
        "input_ids": np.array([ids], np.int64),
        "attention_mask": np.ones((1, len(ids)), np.int64),
        "position_ids": np.arange(len(ids), dtype=np.int64)[None],
        "logits_rows": np.array([-1], np.int64),
    }
    for value in graph.proto.input:
        if value.name not in fed:
            dims = value.type.tensor_type.shape.dim
            # An empty cache: batch, heads, positions, head size.
            fed[value.name] = np.zeros([1, dims[1].dim_value, 0, dims[3].dim_value], np.float32)
    for node in graph.of_type("Gather"):
        table = _held(graph, node.input[0])
        if isinstance(table, LazyTensor) and graph.root(node.input[1]) == "input_ids":
            by_rows = graph.attribute(node, "axis", 0) == 0
            rows = (table if by_rows else table.T)[fed["input_ids"][0]]
            fed[node.output[0]] = rows[None] if by_rows else np.ascontiguousarray(rows.T[:, None])
    return fed


def _run(
    graph: GraphEditor, nodes: Sequence[Node], known: Sequence[Values], values: set[str], later: set[str]
) -> Iterator[Values]:
    """Run a part of a graph for each window; `known` loses what is not needed later and gets what is."""
    made = {name for node in nodes for name in node.output if name}
    read = {name for node in nodes for name in reads(node)} - made - {""}
    lazy = {name: held for name in read if isinstance(held := _held(graph, name), LazyTensor)}
    # Matrices of PyTorch lie transposed, and are read as they lie wherever only products want them.
    turned = {name for name, held in lazy.items() if held.transposed and _only_multiplied(graph, name, nodes)}
    weights = {name: np.asarray(held.T if name in turned else held) for name, held in lazy.items()}
    inputs = {name: known[0][name] for name in read if name in known[0]} | weights
    outputs = sorted(name for name in made if name in later or name in values)
    parted = [_as_it_lies(node) if node.op_type == "MatMul" and node.input[1] in turned else node for node in nodes]
    constants = [graph.whole(name) for name in read if name in graph.initializers and name not in weights]
    model = part_of(graph, parted, inputs, outputs, constants)
    session = _session(model.SerializeToString())
    for window in known:
        feeds = {name: window[name] for name in inputs if name not in weights} | weights
        found = dict(zip(outputs, session.run(outputs, feeds), strict=True))
        yield {name: found[name] for name in found.keys() & values}
        window.update((name, found[name]) for name in found.keys() & later)
        for name in window.keys() - later:
            del window[name]


def _only_multiplied(graph: GraphEditor, name: str, nodes: Sequence[Node]) -> bool:
    part = set(map(id, nodes))
    users = [node for node in graph.users(name) if id(node) in part]
    return all(node.op_type == "MatMul" and list(node.input).index(name) == 1 for node in users)


def _as_it_lies(product: Node) -> Node:
    """The same product of a matrix that is given transposed."""
    return helper.make_node(
        "FusedMatMul", list(product.input), list(product.output), name=product.name, domain=CONTRIB, transB=1
    )


def _held(graph: GraphEditor, name: str) -> Any:
    return graph.held(name) if name in graph.initializers else None


def _session(model: bytes) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    # Packed matrices are another copy of the weights, and would be used for a few passes only.
    options.add_session_config_entry("session.disable_prepacking", "1")
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
