"""`uncertainty-head`: outputs that say of each row what greedy nudging asks for, so that no logits leave the session.

Per row: the arg-max, its probability (the top-1 probability of the gate), and the logarithm of the sum of exponentials.
A row of logits is a vocabulary long, 262,144 numbers for Gemma 3; in the graph its blocks are reduced side by side on
all cores, and on a GPU nothing but three numbers crosses the bus.
"""

from __future__ import annotations

import numpy as np
import onnx

from .graph_editor import GraphEditor
from .head import LOGITS

__all__ = ["LOG_SUM_EXP", "TOP1_ID", "TOP1_PROBABILITY", "uncertainty_head"]

TOP1_ID = "top1_id"
"""Output int64 [batch, rows]: the first of the largest logits."""
TOP1_PROBABILITY = "top1_probability"
"""Output float32 [batch, rows]: its softmax at temperature 1; outside 0 to 1, or NaN, for broken logits."""
LOG_SUM_EXP = "log_sum_exp"
"""Output float32 [batch, rows]: logit minus this is a log-probability."""

_ROWS = ["batch_size", "num_rows"]


def uncertainty_head(graph: GraphEditor) -> bool:
    """Add the three outputs; standard operators only."""
    vocabulary = _vocabulary(graph)
    if not vocabulary or TOP1_ID in graph.outputs:
        return False
    blocks = _blocks(vocabulary)
    width = vocabulary // blocks
    last = graph.store("head.last", np.array([-1]))
    shape = graph.store("head.shape", np.array([0, 0, blocks, width]))
    split = graph.add("Reshape", [LOGITS, shape], "head.blocks")
    peaks = graph.add("ReduceMax", [split, last], "head.peaks", keepdims=0)
    peak = graph.add("ReduceMax", [peaks, last], "head.peak", keepdims=0)
    total = _total(graph, split, peaks, last)
    graph.add("Cast", [graph.add("Reciprocal", [total], "head.top1")], TOP1_PROBABILITY, to=onnx.TensorProto.FLOAT)
    log = graph.add("Cast", [graph.add("Log", [total], "head.log")], "head.log32", to=onnx.TensorProto.FLOAT)
    graph.add("Add", [peak, log], LOG_SUM_EXP)

    # The first block that holds the maximum, and the first place in it: the first of all, as arg-max is defined.
    block = graph.add("ArgMax", [peaks], "head.block", axis=-1, keepdims=1)
    inside = graph.add("GatherND", [split, block], "head.inside", batch_dims=2)
    place = graph.add("ArgMax", [inside], "head.place", axis=-1, keepdims=0)
    which = graph.add("Squeeze", [block, last], "head.which")
    start = graph.add("Mul", [which, graph.store("head.width", np.array(width))], "head.start")
    graph.add("Add", [start, place], TOP1_ID)

    graph.expose(TOP1_ID, onnx.TensorProto.INT64, _ROWS)
    graph.expose(TOP1_PROBABILITY, onnx.TensorProto.FLOAT, _ROWS)
    graph.expose(LOG_SUM_EXP, onnx.TensorProto.FLOAT, _ROWS)
    return True


def _total(graph: GraphEditor, split: str, peaks: str, last: str) -> str:
    """Sum of exp(logit - largest logit), double [batch, rows].

    Built from two Softmax, of the blocks and of their peaks, because ONNX Runtime computes each row of a Softmax by
    itself, where Exp rounds an element by its place among all. The largest entry of a Softmax is one over its sum.
    The few sums of blocks are added in double precision, so that no order of adding shows in a float.
    """
    double = onnx.TensorProto.DOUBLE
    highest = graph.add(
        "ReduceMax", [graph.add("Softmax", [split], "head.inner", axis=-1), last], "head.inner_top", keepdims=0
    )
    # A block of nothing but minus infinity has no Softmax, and counts for nothing.
    empty = graph.add("IsInf", [peaks], "head.empty", detect_positive=0)
    one = graph.store("head.one", np.array(1, np.float32))
    highest = graph.add("Cast", [graph.add("Where", [empty, one, highest], "head.full")], "head.full64", to=double)
    weights = graph.add("Softmax", [peaks], "head.outer", axis=-1)
    top = graph.add("ReduceMax", [weights, last], "head.outer_top", keepdims=0)
    top = graph.add("Cast", [top], "head.top64", to=double)
    shares = graph.add("Div", [graph.add("Cast", [weights], "head.outer64", to=double), highest], "head.shares")
    summed = graph.add("ReduceSum", [shares, last], "head.summed", keepdims=0)
    return graph.add("Div", [summed, top], "head.total")


def _vocabulary(graph: GraphEditor) -> int:
    """Last dimension of fp32 logits; 0 where the graph leaves it open."""
    for value in graph.proto.output:
        if value.name == LOGITS and value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT:
            dims = value.type.tensor_type.shape.dim
            return int(dims[-1].dim_value) if dims else 0
    return 0


def _blocks(vocabulary: int) -> int:
    """Into how many blocks to cut: the divisor nearest to the square root, which balances both reductions."""
    root = vocabulary**0.5
    return min((n for n in range(1, vocabulary + 1) if vocabulary % n == 0), key=lambda n: abs(np.log(n / root)))
