"""Which passes give a row the same bits here: what this processor is known to do, and what is found of a graph."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Collection, Sequence
from typing import get_args

import numpy as np
import onnx
import onnxruntime

from nudge_onnx.bundle import ModelRecord, Prompt, Source
from nudge_onnx.export.bundle.inspect_graph import cache_shape, graph_io, vocabulary_size
from nudge_onnx.export.passes import PROMPT_ROWS
from nudge_onnx.export.passes.graph_editor import GraphEditor
from nudge_onnx.export.passes.window_attention import windows
from nudge_onnx.export.recipes import PROMPT_ATTENTION
from nudge_onnx.runtime.inference.decoder import Decoder
from nudge_onnx.runtime.inference.row_bits import find_row_bits
from nudge_onnx.runtime.sessions.model_session import ModelSession, RowBits

__all__ = ["ask", "at_least", "known", "opened", "same_however_it_is_fed"]

_WEAKEST_FIRST: tuple[RowBits, ...] = tuple(reversed(get_args(RowBits)))


def known(precision: str, *, floats: bool = False) -> RowBits:
    """What has to be found on this processor at the least; `floats` says that keys and values are.

    Products of four bits have one kernel for all rows with AVX-512, and those of eight bits from AVX2 on. Elsewhere,
    and on arm64, nothing is known of what is tested here: only that what is found holds.
    """
    features = importlib.import_module("numpy._core._multiarray_umath").__cpu_features__
    if not features.get("AVX2"):
        return "none"
    return "all" if not floats and (precision == "int8" or features.get("AVX512_SKX")) else "pairs"


def at_least(found: RowBits, wanted: RowBits) -> bool:
    """Whether what was found promises no less."""
    return _WEAKEST_FIRST.index(found) >= _WEAKEST_FIRST.index(wanted)


def opened(model: onnx.ModelProto, passes: Collection[str] = ()) -> ModelSession:
    """A graph with its cache in place, as a session with its record, before anything was asked."""
    rows = "logits_rows" if any(value.name == "logits_rows" for value in model.graph.input) else None
    record = ModelRecord(
        graph="model.onnx",
        tokenizer="tokenizer.json",
        architecture="test",
        precision="test",
        context_length=512,
        vocabulary_size=vocabulary_size(model, 0),
        end_token_ids=(),
        cache=cache_shape(model, "in_place"),
        prompt=Prompt(""),
        source=Source("test", "folder"),
        io=graph_io(model, rows),
        passes=tuple(passes),
        parameters=sum(int(np.prod(tensor.dims)) for tensor in model.graph.initializer),
        prompt_rows=PROMPT_ROWS if PROMPT_ATTENTION in passes else None,
        windows=windows(GraphEditor(model)),
    )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    return ModelSession(session, record, "cpu")


def ask(graph: ModelSession) -> ModelSession:
    """The graph with what is found of it here."""
    return dataclasses.replace(graph, rows=find_row_bits(graph))


def same_however_it_is_fed(graph: ModelSession, ids: Sequence[int], sizes: Sequence[int] = (3, 8, 100, 127)) -> None:
    """Whatever was found, a decoder gives rows the same bits however the ids are spread over calls."""
    decoder = Decoder(graph)

    def fed(size: int) -> np.ndarray:
        decoder.rewind(0)
        parts = [ids[at : at + size] for at in range(0, len(ids), size)]
        return np.concatenate([np.array(decoder.feed(part, len(part))) for part in parts])

    singly = fed(1)
    for size in sizes:
        np.testing.assert_array_equal(fed(size), singly)
