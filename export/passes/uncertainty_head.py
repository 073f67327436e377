"""`uncertainty-head`: outputs that say of each row what greedy nudging asks for, so that no logits leave the session.

Per row: the arg-max, its probability (the top-1 probability of the gate), the logarithm of the sum of exponentials, the
second largest logit and the entropy. A row of logits is a vocabulary long, 262,144 numbers for Gemma 3. In the graph
its blocks are reduced side by side on all cores, and on a GPU nothing but five numbers crosses the bus.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import onnx

from .graph_editor import GraphEditor
from .head import LOGITS

__all__ = ["ENTROPY", "LOG_SUM_EXP", "TOP1_ID", "TOP1_PROBABILITY", "TOP2_LOGIT", "uncertainty_head"]

TOP1_ID = "top1_id"
"""Output int64 [batch, rows]: the first of the largest logits."""
TOP1_PROBABILITY = "top1_probability"
"""Output float32 [batch, rows]: its softmax at temperature 1; outside 0 to 1, or NaN, for broken logits."""
LOG_SUM_EXP = "log_sum_exp"
"""Output float32 [batch, rows]: logit minus this is a log-probability."""
TOP2_LOGIT = "top2_logit"
"""Output float32 [batch, rows]: the second largest logit, the largest again where two are equal."""
ENTROPY = "entropy"
"""Output float32 [batch, rows]: entropy of the softmax in nats."""

_ROWS = ["batch_size", "num_rows"]
_FLOAT, _DOUBLE = onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE


def uncertainty_head(graph: GraphEditor) -> bool:
    """Add the five outputs; standard operators only."""
    vocabulary = _vocabulary(graph)
    if not vocabulary or TOP1_ID in graph.outputs:
        return False
    blocks, width = _blocks(vocabulary)
    last = graph.store("head.last", np.array([-1]))
    logits = LOGITS
    if blocks * width > vocabulary:
        pads = graph.store("head.pads", np.array([0, 0, 0, 0, 0, blocks * width - vocabulary]))
        nothing = graph.store("head.minus_infinity", np.array(-np.inf, np.float32))
        logits = graph.add("Pad", [LOGITS, pads, nothing], "head.padded")
    shape = graph.store("head.shape", np.array([0, 0, blocks, width]))
    split = graph.add("Reshape", [logits, shape], "head.blocks")
    peaks = graph.add("ReduceMax", [split, last], "head.peaks", keepdims=0)
    peak = graph.add("ReduceMax", [peaks, last], "head.peak", keepdims=0)
    inner = graph.add("Softmax", [split], "head.inner", axis=-1)
    # A block of nothing but minus infinity has no Softmax, and counts for nothing.
    empty = graph.add("IsInf", [peaks], "head.empty", detect_positive=0)
    parts, total = _parts(graph, inner, peaks, empty, last)
    graph.add("Cast", [graph.add("Reciprocal", [total], "head.top1")], TOP1_PROBABILITY, to=_FLOAT)
    log = graph.add("Log", [total], "head.log")
    log32 = graph.add("Cast", [log], "head.log32", to=_FLOAT)
    graph.add("Add", [peak, log32], LOG_SUM_EXP)
    _entropy(graph, split, inner, parts, empty, (peak, log), last)

    # The first block that holds the maximum, and the first place in it: the first of all, as arg-max is defined.
    block = graph.add("ArgMax", [peaks], "head.block", axis=-1, keepdims=1)
    inside = graph.add("GatherND", [split, block], "head.inside", batch_dims=2)
    place = graph.add("ArgMax", [inside], "head.place", axis=-1, keepdims=0)
    which = graph.add("Squeeze", [block, last], "head.which")
    start = graph.add("Mul", [which, graph.store("head.width", np.array(width))], "head.start")
    graph.add("Add", [start, place], TOP1_ID)
    _second(graph, {"inside": inside} | ({"peaks": peaks} if blocks > 1 else {}), last)

    graph.expose(TOP1_ID, onnx.TensorProto.INT64, _ROWS)
    for name in (TOP1_PROBABILITY, LOG_SUM_EXP, TOP2_LOGIT, ENTROPY):
        graph.expose(name, _FLOAT, _ROWS)
    return True


def _parts(graph: GraphEditor, inner: str, peaks: str, empty: str, last: str) -> tuple[str, str]:
    """Each block's part of the whole, double [batch, rows, blocks], and the sum of exp(logit - largest), [batch, rows].

    Built from two Softmax, of the blocks and of their peaks, because ONNX Runtime computes each row of a Softmax by
    itself, where Exp rounds an element by its place among all. The largest entry of a Softmax is one over its sum.
    The few sums of blocks are added in double precision, so that no order of adding shows in a float.
    """
    highest = graph.add("ReduceMax", [inner, last], "head.inner_top", keepdims=0)
    one = graph.store("head.one", np.array(1, np.float32))
    highest = graph.add("Cast", [graph.add("Where", [empty, one, highest], "head.full")], "head.full64", to=_DOUBLE)
    weights = graph.add("Softmax", [peaks], "head.outer", axis=-1)
    top = graph.add("ReduceMax", [weights, last], "head.outer_top", keepdims=0)
    top = graph.add("Cast", [top], "head.top64", to=_DOUBLE)
    shares = graph.add("Div", [graph.add("Cast", [weights], "head.outer64", to=_DOUBLE), highest], "head.shares")
    summed = graph.add("ReduceSum", [shares, last], "head.summed", keepdims=0)
    whole = graph.add("Unsqueeze", [summed, last], "head.whole")
    return graph.add("Div", [shares, whole], "head.parts"), graph.add("Div", [summed, top], "head.total")


def _entropy(
    graph: GraphEditor, split: str, inner: str, parts: str, empty: str, sums: tuple[str, str], last: str
) -> None:
    """The log-sum-exp minus the expected logit, which is that of each block by the part of it in the whole."""
    peak, log = sums
    # Zero times minus infinity is no number.
    least = graph.store("head.least", np.array(-1e30, np.float32))
    finite = graph.add("Clip", [split, least], "head.finite")
    expected = graph.add(
        "ReduceSum", [graph.add("Mul", [inner, finite], "head.products"), last], "head.of_blocks", keepdims=0
    )
    nothing = graph.store("head.nothing", np.array(0, np.float32))
    expected = graph.add("Where", [empty, nothing, expected], "head.of_full")
    weighted = graph.add("Mul", [parts, graph.add("Cast", [expected], "head.of_full64", to=_DOUBLE)], "head.weighted")
    mean = graph.add("ReduceSum", [weighted, last], "head.mean", keepdims=0)
    level = graph.add("Sub", [graph.add("Cast", [peak], "head.peak64", to=_DOUBLE), mean], "head.level")
    graph.add("Cast", [graph.add("Add", [level, log], "head.nats")], ENTROPY, to=_FLOAT)


def _second(graph: GraphEditor, groups: Mapping[str, str], last: str) -> None:
    """The second largest logit: the second one of the block of the largest, or the peak of another block."""
    two = graph.store("head.two", np.array([2]))
    candidates = []
    for name, values in groups.items():
        largest = graph.add("TopK", [values, two], [f"head.{name}_two", f"head.{name}_places"], axis=-1)
        candidates.append(graph.add("ReduceMin", [largest, last], f"head.{name}_second", keepdims=0))
    graph.add("Max", candidates, TOP2_LOGIT)


def _vocabulary(graph: GraphEditor) -> int:
    """Last dimension of fp32 logits; 0 where the graph leaves it open."""
    for value in graph.proto.output:
        if value.name == LOGITS and value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT:
            dims = value.type.tensor_type.shape.dim
            return int(dims[-1].dim_value) if dims else 0
    return 0


def _blocks(vocabulary: int) -> tuple[int, int]:
    """Into how many blocks to cut, and how wide: near the square root, which balances both reductions.

    Widths are multiples of 16, so that every row begins where vector instructions add in the same order. Where none of
    them divides the vocabulary, the last block is filled up.
    """
    root = vocabulary**0.5
    widths = range(16, vocabulary + 1, 16)
    even = [width for width in widths if vocabulary % width == 0 and root / 4 <= width <= root * 4]
    width = min(even, key=lambda width: abs(np.log(width / root)), default=16 * math.ceil(root / 16))
    return math.ceil(vocabulary / width), width
