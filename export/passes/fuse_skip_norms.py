"""`fuse-skip-norms`: the addition to the residual stream and the RMS norm that reads it become one node.

Both pass over the hidden state of a row once, and in a step of one token what they cost is to be started.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .graph_editor import CONTRIB, GraphEditor

__all__ = ["fuse_skip_norms"]


def fuse_skip_norms(graph: GraphEditor, config: Mapping[str, Any]) -> bool:
    """Fuse an Add of two computed values [batch, sequence, hidden] with the norm behind it; the sum stays a value."""
    changed = False
    for norm in list(graph.of_type("SimplifiedLayerNormalization")):
        # A norm of queries or keys may read a sum behind the rotary embedding: the kernel takes no four dimensions.
        if graph.dims(norm.input[1]) != (config.get("hidden_size"),):
            continue
        summed = norm.input[0]
        add = graph.made_by(summed, "Add")
        # Of two norms behind one sum the first has it; a constant summand is a bias.
        if add is None or any(graph.is_constant(name) for name in add.input):
            continue
        graph.remove(norm)
        graph.remove(add)
        graph.add(
            "SkipSimplifiedLayerNormalization",
            [*add.input, norm.input[1]],
            [norm.output[0], "", "", summed],
            domain=CONTRIB,
            epsilon=graph.attribute(norm, "epsilon"),
        )
        changed = True
    return changed
