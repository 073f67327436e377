"""Graph passes: small rewrites that make Optimum's graph fast without changing what it computes.

`docs/graphs.md` says what each one does. A pass that does not recognise a graph leaves it as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import onnx

from .fold_tied_head import fold_tied_head
from .fuse_gelu import fuse_gelu
from .fuse_norms import fuse_norms
from .fuse_projections import fuse_gate_up, fuse_qkv
from .fuse_skip_norms import fuse_skip_norms
from .graph_editor import GraphEditor
from .group_query_attention import context_rows, group_query_attention
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
    "INT8_CACHE",
    "PASSES",
    "PROMPT_ATTENTION",
    "PROMPT_ROWS",
    "SMOOTH_QUANT",
    "Result",
    "apply",
    "finish",
    "last_near",
    "smooth",
    "smoothable",
    "windows",
]

Pass = Callable[[GraphEditor, Mapping[str, Any]], bool]

_PORTABLE: dict[str, Pass] = {"fold-tied-head": fold_tied_head, "last-rows": last_rows}
_CONTRIB: dict[str, Pass] = {
    "fuse-norms": fuse_norms,
    "fuse-gelu": fuse_gelu,
    "separate-heads": separate_heads,
    "group-query-attention": group_query_attention,
    "fuse-qkv": fuse_qkv,
    "fuse-gate-up": fuse_gate_up,
    "shared-embedding": shared_embedding,
    "fuse-skip-norms": fuse_skip_norms,
}
_QUANTISABLE: dict[str, Pass] = {"separate-experts": separate_experts}
"""Worth their nodes only where weights get fewer bits."""

SMOOTH_QUANT = "smooth-quant"
INT8_CACHE = "int8-cache"
PROMPT_ATTENTION = "prompt-attention"
HALF_ATTENTION = "half-attention"
_FINISHING = (INT8_CACHE, PROMPT_ATTENTION, "window-attention", "join-branches", HALF_ATTENTION, "uncertainty-head")

PASSES: tuple[str, ...] = (*_PORTABLE, *_CONTRIB, *_QUANTISABLE, SMOOTH_QUANT, *_FINISHING)
"""Names of all passes, in the order they run; those of `finish` run on weights in their final precision."""


@dataclass(frozen=True)
class Result:
    """A rewritten graph and what a runtime must know about it."""

    model: onnx.ModelProto
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


def apply(
    model: onnx.ModelProto,
    config: Mapping[str, Any],
    *,
    precision: str,
    skip: Collection[str] = (),
    portable: bool = False,
) -> Result:
    """Run every pass that recognises the graph. `model` is edited in place: weights are not held twice.

    `model` is Optimum's text-generation-with-past graph with its weights loaded; `config` is the checkpoint's
    configuration (the text model's, where there are several); `precision` is what its weights will get; `skip` names
    passes to leave out; `portable` keeps to standard operators. Raises `ValueError` for an unknown name in `skip`.
    """
    if unknown := set(skip) - set(PASSES):
        raise ValueError(f"unknown pass {', '.join(sorted(unknown))}; there are {', '.join(PASSES)}")
    graph = GraphEditor(model)
    quantisable = _QUANTISABLE if precision.startswith("int") else {}
    applied = _run({**_PORTABLE, **({} if portable else {**_CONTRIB, **quantisable})}, graph, config, skip)
    return Result(
        model=model,
        applied=applied,
        cache_kind="in_place" if "group-query-attention" in applied else "growing",
        logits_rows=LOGITS_ROWS if LOGITS_ROWS in graph.inputs else None,
        inputs=graph.inputs,
        context_length=context_rows(config) if "group-query-attention" in applied else None,
    )


def smooth(
    model: onnx.ModelProto,
    config: Mapping[str, Any],
    sizes: Mapping[str, Floats],
    *,
    skip: Collection[str] = (),
) -> tuple[str, ...]:
    """Run the pass that prepares a rewritten graph for eight bits; returns its name if it changed `model`.

    `sizes` are those of the channels of its `smoothable` values (see `smooth_quant`).
    """
    return _run({SMOOTH_QUANT: partial(smooth_quant, sizes=sizes)}, GraphEditor(model), config, skip)


def finish(
    model: onnx.ModelProto,
    config: Mapping[str, Any],
    *,
    skip: Collection[str] = (),
    peaks: Mapping[str, Floats] | None = None,
    halves: bool = False,
) -> tuple[str, ...]:
    """Run the passes that need weights in their final precision; returns the names of those that changed `model`.

    `peaks` are the largest values of the cache (see `int8_cache`); without them it stays in floats, or with `halves` in
    halves (see `half_attention`).
    """
    codes = partial(int8_cache, peaks=peaks or {})
    passes: tuple[Pass, ...] = (
        codes,
        prompt_attention,
        window_attention,
        join_branches,
        half_attention,
        uncertainty_head,
    )
    skip = skip if halves else {*skip, HALF_ATTENTION}
    return _run(dict(zip(_FINISHING, passes, strict=True)), GraphEditor(model), config, skip)


def _run(
    passes: Mapping[str, Pass], graph: GraphEditor, config: Mapping[str, Any], skip: Collection[str]
) -> tuple[str, ...]:
    applied = []
    for name, run in passes.items():
        if name not in skip and run(graph, config):
            graph.sweep()
            applied.append(name)
    return tuple(applied)
