"""Opens a model and finds out which of its passes share bits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from nudge_onnx.bundle import Bundle

from ..sessions.creation import CreateSession, create_session
from ..sessions.model_session import ModelSession
from ..sessions.providers import ProviderSpec
from ..sessions.session import open_session
from .row_bits import remembered_row_bits
from .row_memory import RowMemory

__all__ = ["open_model"]


def open_model(
    bundle: Bundle,
    role: str,
    providers: Sequence[ProviderSpec],
    threads: int | None = None,
    cache_dir: Path | None = None,
    *,
    alone: bool = True,
    create: CreateSession = create_session,
) -> ModelSession:
    """What `open_session` opens, ready for a `Decoder`.

    Which passes share bits is asked of the session, unless an earlier load remembered it: in `cache_dir`, or in the
    user's cache folder.

    Raises `ProviderError` if no wanted provider loads and `BundleError` if ONNX Runtime refuses the graph.
    """
    opened = open_session(bundle, role, providers, threads, cache_dir, alone=alone, create=create)
    memory = RowMemory.of(opened, bundle.manifest.files, cache_dir)
    return replace(opened, rows=remembered_row_bits(opened, memory))
