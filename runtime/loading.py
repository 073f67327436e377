"""Opens everything that a bundle's models need, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path

from nudge_onnx.bundle import Bundle, ModelRecord

from .batching.probe import remembered_batches
from .inference.opening import open_model
from .inference.row_memory import RowMemory
from .sessions.creation import CreateSession, create_session
from .sessions.model_session import ModelSession
from .sessions.providers import ProviderSpec, resolve_providers
from .system.huge_pages import huge_pages
from .system.memory import return_freed_memory
from .text.tokenizer import Tokenizer

__all__ = ["open_models"]

# Opening a session leaves the interpreter after a few milliseconds. Reading a tokenizer keeps its lock from beginning
# to end (a second for a vocabulary of 262,144), so it should not begin before.
_HEAD_START = 0.05


def open_models(
    bundle: Bundle,
    providers: Sequence[ProviderSpec] = ("cpu",),
    threads: int | None = None,
    cache_dir: Path | None = None,
    *,
    several: bool = True,
    create: CreateSession = create_session,
) -> tuple[dict[str, ModelSession], dict[str, Tokenizer]]:
    """The session and the tokenizer of every model, by role; options are those of `open_model`.

    With `several` it is asked, too, whether several texts may share a pass.

    Raises `BundleError`, `ProviderError`, `RuntimeMissingError`.
    """
    resolve_providers(providers)  # what fails here need not wait for anything to be read
    models = bundle.manifest.models

    def size(*paths: str) -> int:
        return sum(bundle.manifest.files[path].bytes for path in paths)

    def weight(model: ModelRecord) -> int:
        return size(model.graph, *model.external_data)

    # A session takes most memory while it rearranges its largest matrix, which is there twice then. So the heaviest is
    # opened first, when nothing else takes much, beside the largest tokenizer, whose reading takes longest. Opening
    # all at once would save another tenth of the time and take a quarter more memory.
    by_weight = sorted(models, key=lambda role: weight(models[role]), reverse=True)
    by_text = sorted(models, key=lambda role: size(models[role].tokenizer), reverse=True)
    with huge_pages(), ThreadPoolExecutor(max_workers=1) as beside:
        sessions = {
            role: beside.submit(_opened, bundle, role, providers, threads, cache_dir, create, several=several)
            for role in by_weight
        }
        wait(sessions.values(), _HEAD_START, FIRST_EXCEPTION)
        tokenizers = {}
        for role in by_text:
            tokenizers[role] = Tokenizer(bundle.path(models[role].tokenizer), role, models[role].vocabulary_size)
            return_freed_memory()
        return {role: sessions[role].result() for role in models}, tokenizers


def _opened(
    bundle: Bundle,
    role: str,
    providers: Sequence[ProviderSpec],
    threads: int | None,
    cache_dir: Path | None,
    create: CreateSession,
    *,
    several: bool,
) -> ModelSession:
    """A model of which it is known, with `several`, whether its passes may read rows of several texts."""
    model = open_model(bundle, role, providers, threads, cache_dir, alone=False, create=create)
    if not several:
        return model
    return replace(model, batches=remembered_batches(model, RowMemory.of(model, bundle.manifest.files, cache_dir)))
