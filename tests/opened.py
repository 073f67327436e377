"""Models that are opened with sessions of a test's own making."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from nudge_onnx import Bundle, NudgedLM
from nudge_onnx.runtime.loading import open_models
from nudge_onnx.runtime.sessions.creation import CreateSession
from nudge_onnx.runtime.sessions.model_session import ModelSession

__all__ = ["loaded"]


def loaded(
    folder: Path,
    create: CreateSession,
    *,
    threads: int | None = None,
    cache_mib: int = 512,
    cache_dir: Path | None = None,
    change: Callable[[ModelSession], ModelSession] = lambda model: model,
) -> NudgedLM:
    """What `NudgedLM.load` returns, of sessions that `create` makes and `change` changes."""
    bundle = Bundle.open(folder)
    models, tokenizers = open_models(bundle, ("cpu",), threads, cache_dir, create=create)
    return NudgedLM(bundle, {role: change(model) for role, model in models.items()}, tokenizers, cache_mib=cache_mib)
