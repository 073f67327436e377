"""Graph passes: small rewrites that make Optimum's graph fast without changing what it computes.

`docs/graphs.md` says what each one does, and `recipes` which of them a graph gets. A pass that does not recognise a
graph leaves it as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from .fold_tied_head import fold_tied_head
from .fuse_gelu import fuse_gelu
from .fuse_norms import fuse_norms
from .fuse_projections import fuse_gate_up, fuse_qkv
from .fuse_skip_norms import fuse_skip_norms
from .graph_editor import GraphEditor, Model
from .group_query_attention import CONTEXT_LIMIT, context_rows, group_query_attention
from .half_attention import half_attention
from .int8_cache import Floats, int8_cache
from .join_branches import join_branches
from .last_rows import LOGITS_ROWS, last_rows
from .prompt_attention import PROMPT_ROWS, prompt_attention
from .separate_experts import separate_experts
from .separate_heads import separate_heads
from .shared_embedding import shared_embedding
from .smooth_quant import smooth_quant, smoothable
from .uncertainty_head import uncertainty_head
from .window_attention import last_near, window_attention, windows

__all__ = [
    "CONTEXT_LIMIT",
    "PROMPT_ROWS",
    "Result",
    "finish",
    "last_near",
    "rewrite",
    "smooth",
    "smoothable",
    "windows",
]

Pass = Callable[[GraphEditor], bool]
"""Edits a graph; returns whether it did."""


@dataclass(frozen=True)
class Result:
    """A rewritten graph and what a runtime must know about it."""

    model: Model
    applied: tuple[str, ...]
    """Names of the passes that changed the graph, in order."""
    cache_kind: Literal["growing", "in_place"]
    """`in_place`: past and present of a layer are one buffer [batch, kv_heads, capacity, head_size]."""
    logits_rows: str | None
    """Name of the int64 input [num_rows] that picks the positions to compute logits for."""
    inputs: tuple[str, ...]
    """Names of the graph's inputs; `position_ids` may have vanished."""
    context_length: int | None
    """Most positions of the rewritten graph, at most the model's own context; `None` where no pass sets a limit."""


def rewrite(model: Model, config: Mapping[str, Any], passes: Sequence[str], context: int = CONTEXT_LIMIT) -> Result:
    """Run a recipe's `rewriting` passes. `model` is edited in place: weights are not held twice.

    `model` is Optimum's text-generation-with-past graph with its weights loaded; `config` is the checkpoint's
    configuration (the text model's, where there are several). A rewritten attention reads texts of up to `context`
    positions, if the model does.
    """
    graph = GraphEditor(model)
    known: dict[str, Pass] = {
        "fold-tied-head": fold_tied_head,
        "last-rows": partial(last_rows, config=config),
        "fuse-norms": fuse_norms,
        "fuse-gelu": fuse_gelu,
        "separate-heads": partial(separate_heads, config=config),
        "group-query-attention": partial(group_query_attention, config=config, context=context),
        "fuse-qkv": fuse_qkv,
        "fuse-gate-up": fuse_gate_up,
        "shared-embedding": shared_embedding,
        "fuse-skip-norms": partial(fuse_skip_norms, config=config),
        "separate-experts": separate_experts,
    }
    applied = _run({name: known[name] for name in passes}, graph)
    return Result(
        model=model,
        applied=applied,
        cache_kind="in_place" if "group-query-attention" in applied else "growing",
        logits_rows=LOGITS_ROWS if LOGITS_ROWS in graph.inputs else None,
        inputs=graph.inputs,
        context_length=context_rows(config, context) if "group-query-attention" in applied else None,
    )


def smooth(model: Model, sizes: Mapping[str, Floats]) -> tuple[str, ...]:
    """Run the pass that prepares a rewritten graph for eight bits; returns its name if it changed `model`.

    `sizes` are those of the channels of its `smoothable` values (see `smooth_quant`).
    """
    return _run({"smooth-quant": partial(smooth_quant, sizes=sizes)}, GraphEditor(model))


def finish(model: Model, passes: Sequence[str], *, peaks: Mapping[str, Floats] | None = None) -> tuple[str, ...]:
    """Run a recipe's `finishing` passes on weights in their final precision; returns those that changed `model`.

    `peaks` are the largest values of the cache (see `int8_cache`); without them it stays in floats.
    """
    known: dict[str, Pass] = {
        "int8-cache": partial(int8_cache, peaks=peaks or {}),
        "prompt-attention": prompt_attention,
        "window-attention": window_attention,
        "join-branches": join_branches,
        "half-attention": half_attention,
        "uncertainty-head": uncertainty_head,
    }
    return _run({name: known[name] for name in passes}, GraphEditor(model))


def _run(passes: Mapping[str, Pass], graph: GraphEditor) -> tuple[str, ...]:
    applied = []
    for name, run in passes.items():
        if run(graph):
            graph.sweep()
            applied.append(name)
    return tuple(applied)
