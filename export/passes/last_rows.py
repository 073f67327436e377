"""`last-rows`: logits only for the positions that are asked for.

A prefill needs the logits of its last position alone; the head of a small model with a large vocabulary is half of the
work. The rows are picked before the head, so the logits that are left are the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx

from .graph_editor import GraphEditor
from .head import LOGITS, find_head

__all__ = ["LOGITS_ROWS", "before_rows", "last_rows"]

LOGITS_ROWS = "logits_rows"
"""Name of the int64 input [num_rows]: indices among the tokens of this call; negative ones count from the last."""


def last_rows(graph: GraphEditor, config: Mapping[str, Any]) -> bool:
    """Add the input `logits_rows`; the logits become [batch, num_rows, vocabulary]."""
    head = find_head(graph)
    if head is None or LOGITS_ROWS in graph.inputs:
        return False
    graph.declare(LOGITS_ROWS, onnx.TensorProto.INT64, ["num_rows"])
    hidden = head.input[0]
    graph.rewire(head, hidden, graph.add("Gather", [hidden, LOGITS_ROWS], "logits_hidden", axis=1))
    graph.reshape(LOGITS, ["batch_size", "num_rows", config["vocab_size"]])
    return True


def before_rows(graph: GraphEditor, value: str) -> str:
    """The value that rows were picked of, where `value` is such a choice; otherwise `value` itself."""
    chosen = graph.made_by(value, "Gather")
    return str(chosen.input[0]) if chosen is not None and LOGITS_ROWS in chosen.input else value
