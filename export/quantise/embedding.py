"""An embedding with a table of its own, in eight or four bits: of a model whose head is not tied to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx

from ..passes.graph_editor import CONTRIB, GraphEditor
from ..weights import Tensor
from .blocks import BLOCK, Blocks, quantise_rows
from .regrid import regrid

__all__ = ["add_lookup", "four_bits_of_table", "quantise_table"]


def add_lookup(graph: GraphEditor, inputs: Sequence[str], output: str, blocks: Blocks) -> None:
    """Add the operator that reads rows of a table in `blocks`; its codes are [rows, bytes], a row in one piece."""
    graph.add(
        "GatherBlockQuantized",
        inputs,
        output,
        domain=CONTRIB,
        bits=blocks.bits,
        block_size=blocks.size,
        gather_axis=0,
        quantize_axis=1,
    )


def quantise_table(graph: GraphEditor, blocks_of: Callable[[Tensor], Blocks]) -> None:
    """Let the embedding read rows [vocabulary, hidden] of what `blocks_of` makes of its table."""
    for node in list(graph.of_type("Gather")):
        table, ids = node.input
        dims = graph.dims(table)
        if dims is None or graph.initializers[table].data_type != onnx.TensorProto.FLOAT:
            continue
        if graph.root(ids) != "input_ids" or graph.attribute(node, "axis", 0) != 0:
            continue
        if len(dims) != 2 or dims[1] % BLOCK or len(graph.users(table)) > 1:
            continue
        blocks = blocks_of(graph.held(table))
        inputs = [graph.store_finished(f"{table}.codes", blocks.codes.reshape(len(blocks.codes), -1)), ids]
        inputs.append(graph.store_finished(f"{table}.scales", blocks.scales))
        if blocks.zero_points is not None:
            inputs.append(graph.store_finished(f"{table}.zero_points", blocks.zero_points))
        output = node.output[0]
        graph.remove(node)
        add_lookup(graph, inputs, output, blocks)
        graph.drop(table)


def four_bits_of_table(table: Tensor) -> Blocks:
    """The blocks of sixteen levels that a table was in before, if the operator can hold them; else eight bits."""
    blocks = regrid(table)
    return blocks if blocks is not None and blocks.offsets is None else quantise_rows(table, 8)
