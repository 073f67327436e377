"""Opens one model of a bundle as an ONNX Runtime session."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from nudge_onnx.bundle import Bundle, ModelRecord
from nudge_onnx.errors import BundleError, ProviderError

from ..system.processor import processor, usable_cores
from .creation import CreateSession, create_session
from .cuda_graphs import CudaGraphs
from .graph_cache import Entry
from .graph_io import check_graph
from .model_session import ModelSession
from .providers import (
    PROVIDERS,
    Provider,
    ProviderSpec,
    check_loaded,
    may_record,
    onnxruntime,
    recorded,
    records_runs,
    resolve_providers,
    short_name,
)
from .tensorrt import with_tensorrt_options

__all__ = ["open_session", "session_options"]

_CPU, _CUDA = (PROVIDERS[name] for name in ("cpu", "cuda"))


def open_session(
    bundle: Bundle,
    role: str,
    providers: Sequence[ProviderSpec],
    threads: int | None = None,
    cache_dir: Path | None = None,
    *,
    alone: bool = True,
    create: CreateSession = create_session,
) -> ModelSession:
    """Open the graph of `role`; `threads` is ONNX Runtime's intra-op count, by default the number of cores.

    `alone` says that no other model of this process works in turn with it on the same cores. `create` makes each
    session: one that is profiled, say, or counted.

    With `cache_dir` a graph for the CPU is kept there with its weights prepacked, and opened from there; TensorRT
    keeps its engines there.

    Raises `ProviderError` if no wanted provider loads and `BundleError` if ONNX Runtime refuses the graph.
    """
    record = bundle.manifest.models[role]
    wanted = resolve_providers(providers)
    if records_runs(*wanted[0]):
        _check_recordable(record)

    def options() -> Any:
        return session_options(wanted, threads, alone=alone)

    session = None
    if cache_dir is not None and [name for name, _ in wanted] == [_CPU]:
        session = _open_cached(bundle, role, wanted, options, cache_dir, create)
    prepacked = session is not None
    if may_record(*wanted[0]) and _is_recordable(record) and record.cache.dtype == "float16":
        recording = [recorded(*wanted[0])]
        with suppress(BundleError, ProviderError):  # not where a part of the graph is left to the CPU
            session = create(bundle.path(record.graph), record.graph, recording, options())
            wanted = [*recording, *wanted[1:]]
    if session is None:
        engines = cache_dir and cache_dir / f"tensorrt-{role}-{bundle.manifest.files[record.graph].sha256[:24]}"
        prepared = with_tensorrt_options(wanted, record, engines)
        session = create(bundle.path(record.graph), record.graph, prepared, options())
    name = check_loaded(session, wanted)
    check_graph(session, record)
    settings = dict(wanted)[name]
    cuda_graphs = CudaGraphs() if records_runs(name, settings) else None
    return ModelSession(
        session,
        record,
        short_name(name),
        int(settings.get("device_id", 0)),
        cuda_graphs,
        opened_with={
            "providers": [[full, {key: str(value) for key, value in given.items()}] for full, given in wanted],
            # A product may be cut by rows for threads, and the number of these is the system's where none is given.
            "threads": threads or f"{usable_cores()} cores",
            "prepacked": prepacked,
        },
    )


def _check_recordable(record: ModelRecord) -> None:
    if not _is_recordable(record):
        raise ProviderError(
            f"{record.graph} cannot be recorded by enable_cuda_graph; leave it out, or export with --target cuda in "
            "another precision than fp32"
        )


def _is_recordable(record: ModelRecord) -> bool:
    # Graphs for the CPU whose cache is int8 choose between branches, which cannot be recorded.
    return record.cache.kind == "in_place" and record.cache.dtype != "int8"


def session_options(wanted: Sequence[Provider], threads: int | None, *, alone: bool) -> Any:
    """The `SessionOptions` of a model that runs on these providers; `threads` and `alone` as for `open_session`."""
    options = onnxruntime().SessionOptions()
    if threads is not None:
        options.intra_op_num_threads = threads
    if not alone:
        # Each session has threads of its own on the same cores, and idle ones spin for a while before they sleep: those
        # of the model whose turn it is wait for those of the one that handed it over, or of another process. Against
        # ONNX Runtime's default, answers of the int8 demo pair took 0.7 of the time, on a busy core as on quiet ones. A
        # model alone is 4 % faster with the default, on quiet cores; without any spinning it loses a tenth or more.
        options.add_session_config_entry("session.intra_op.spin_duration_us", "50")
    options.log_severity_level = 3  # warnings about nodes kept on the CPU are noise to a user
    if wanted[0][0] == _CUDA:
        # What ONNX Runtime reshapes ahead it holds twice, and an embedding and head of one table are a case of it.
        options.add_session_config_entry("optimization.constant_folding_max_output_size_in_bytes", str(1 << 20))
    if all(name != _CPU for name, _ in wanted):
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    return options


def _open_cached(
    bundle: Bundle,
    role: str,
    wanted: Sequence[Provider],
    options_of: Callable[[], Any],
    cache_dir: Path,
    create: CreateSession,
) -> Any | None:
    """A session on the cached graph, or `None`, with a warning, where there is none that can be used."""
    ort = onnxruntime()
    record = bundle.manifest.models[role]
    files = bundle.manifest.files
    depends_on = {
        "files": {path: files[path].sha256 for path in (record.graph, *record.external_data)},
        "onnxruntime": f"{ort.__version__} {ort.get_build_info()}",
        "providers": [[name, options] for name, options in wanted],
        "processor": processor(),
    }

    def write(path: Path) -> None:
        options = options_of()
        options.optimized_model_filepath = str(path)
        # Small tensors stay in the graph, where shape inference reads them.
        for key, value in {
            "session.optimized_model_external_initializers_file_name": f"{path.name}.data",
            "session.optimized_model_external_initializers_min_size_in_bytes": "1024",
            "session.save_external_prepacked_constant_initializers": "1",
        }.items():
            options.add_session_config_entry(key, value)
        create(bundle.path(record.graph), record.graph, wanted, options)

    entry = Entry(cache_dir, role, depends_on)
    path = entry.graph(write)
    if path is None:
        return None
    options = options_of()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL  # it is optimised
    try:
        return create(path, record.graph, wanted, options)
    except BundleError as error:
        entry.drop(str(error))
        return None
