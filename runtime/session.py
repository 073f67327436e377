"""Opens one model of a bundle as an ONNX Runtime session."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nudge_onnx.bundle import Bundle, ModelRecord
from nudge_onnx.errors import BundleError

from .providers import ProviderSpec, check_loaded, onnxruntime, resolve_providers

__all__ = ["Graph", "open_graph"]


@dataclass(frozen=True)
class Graph:
    """An open session, the record that describes its inputs, and the provider that runs it."""

    session: Any
    record: ModelRecord
    provider: str

    @property
    def device(self) -> str:
        """Where cache buffers live: `cuda` for the CUDA and TensorRT providers, else `cpu`."""
        return "cuda" if self.provider in ("cuda", "tensorrt") else "cpu"


def open_graph(bundle: Bundle, role: str, providers: Sequence[ProviderSpec], threads: int | None = None) -> Graph:
    """Open the graph of `role`; `threads` is ONNX Runtime's intra-op count, by default the number of cores.

    Raises `ProviderError` if no wanted provider loads and `BundleError` if ONNX Runtime refuses the graph.
    """
    ort = onnxruntime()
    record = bundle.manifest.models[role]
    wanted = resolve_providers(providers)
    options = ort.SessionOptions()
    if threads is not None:
        options.intra_op_num_threads = threads
    options.log_severity_level = 3  # warnings about nodes kept on the CPU are noise to a user
    path = bundle.path(record.graph)
    try:
        session = ort.InferenceSession(
            str(path), options, providers=[name for name, _ in wanted], provider_options=[opts for _, opts in wanted]
        )
    except Exception as error:  # onnxruntime raises a family of types of its own
        reason = str(error).splitlines()[0]
        raise BundleError(
            f"ONNX Runtime cannot open {record.graph} ({reason}); check it with nudge-onnx inspect --check"
        ) from None
    provider = check_loaded(session, wanted)
    missing = _expected_inputs(record) - {i.name for i in session.get_inputs()}
    if missing:
        raise BundleError(
            f"{record.graph} lacks the input {sorted(missing)[0]} that its manifest names; export it again"
        )
    return Graph(session, record, provider)


def _expected_inputs(record: ModelRecord) -> set[str]:
    io = record.io
    names = {io.input_ids, io.attention_mask, io.position_ids, io.logits_rows} - {None}
    for layer in range(record.cache.layers):
        names |= {io.past_key.format(layer=layer), io.past_value.format(layer=layer)}
    return {name for name in names if name is not None}
