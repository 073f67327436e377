"""One checkpoint becomes one model of a bundle: graph, passes, precision, measurement, record."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from nudge_onnx.bundle import Cache, GraphIO, ModelRecord, Prompt
from nudge_onnx.choices import Precision, Target

from ..measure.calibrate import WINDOW, Calibration
from ..measure.verify import Measurement, check, measure
from ..passes import CONTEXT_LIMIT, PROMPT_ROWS, finish, last_near, rewrite, smooth, smoothable, windows
from ..passes.graph_editor import GraphEditor, LazyModel, lazily
from ..quantise.weights import quantise, to_calibrate
from ..recipes import INT8_CACHE, PROMPT_ATTENTION, RECIPES, Recipe
from ..source.calibration_text import calibration_text
from ..source.configuration import claimed_context, context_length, original_context
from ..source.sources import Checkpoint
from ..source.tokenizer_file import save_tokenizer
from ..support.journal import NOWHERE, Journal
from ..support.progress import Progress, Report
from ..support.scratch import fingerprint
from ..trace.torch_reference import TorchReference
from ..trace.traced_graph import traced_graph
from ..weights import DataFile
from .inspect_graph import cache_shape, float_weights, graph_io, vocabulary_size
from .saving import DATA, save
from .views import separate_views

__all__ = ["Conversion", "end_token_ids", "export_model"]


@dataclass(frozen=True)
class Conversion:
    """How one model is to be exported."""

    role: str
    precision: Precision
    target: Target = "cpu"
    skipped_passes: Collection[str] = ()
    context: int | None = None
    """Positions to read at most; `None`: the model's own, and 32,768 where a table of positions is kept."""
    trust_remote_code: bool = False

    @property
    def recipe(self) -> Recipe:
        """What is done to the graph. Raises `ValueError` for an unknown name in `skipped_passes`."""
        return RECIPES[self.target, self.precision].without(self.skipped_passes)


@dataclass(frozen=True)
class _WrittenGraph:
    io: GraphIO
    cache: Cache
    context_length: int
    vocabulary_size: int
    passes: tuple[str, ...]
    windows: tuple[int, ...]
    """Sliding windows behind which it reads the end of the cache only."""
    files: tuple[str, ...]
    float_weights: int


def export_model(
    checkpoint: Checkpoint,
    config: Any,
    tokenizer: Any,
    prompt: Prompt,
    conversion: Conversion,
    *,
    bundle: Path,
    work: Path,
    progress: Progress,
    keep: bool = False,
) -> ModelRecord:
    """Write graph and tokenizer of one model below `bundle/<role>/` and return its record.

    `config` is the text model's. Intermediate files go to `work`. With `keep` these are also the finished parts of a
    graph, for as long as the rest is not: an export that was killed goes on there. Raises `ExportError` if the
    checkpoint cannot be exported or the result is not the same function.
    """
    role, trust = conversion.role, conversion.trust_remote_code
    with progress.step(f"{role}: export"):
        traced = traced_graph(checkpoint.folder, work, trust_remote_code=trust, note=progress.note)
    text = tokenizer.encode(calibration_text(), verbose=False)
    journal = Journal(_unfinished(checkpoint.folder, conversion, text, work)) if keep else NOWHERE
    folder = bundle / role
    folder.mkdir(parents=True, exist_ok=True)
    with closing(DataFile(folder / DATA)) as data:
        graph = _write_graph(replace(traced, data=data), config, text, conversion, journal, progress)
    if graph.files and conversion.recipe.separate_views:
        separate_views(folder / "model.onnx")
    save_tokenizer(tokenizer, folder / "tokenizer.json")
    with progress.step(f"{role}: verification") as report:
        measurement = _measure(
            folder / "model.onnx",
            graph,
            partial(TorchReference, checkpoint.folder, trust_remote_code=trust),
            config,
            tokenizer,
            report,
        )
        check(measurement, conversion.precision)
    journal.clear()
    return ModelRecord(
        graph=f"{role}/model.onnx",
        external_data=tuple(f"{role}/{file}" for file in graph.files),
        tokenizer=f"{role}/tokenizer.json",
        architecture=config.model_type,
        precision=conversion.precision,
        parameters=measurement.parameters,
        float_weights=graph.float_weights,
        context_length=graph.context_length,
        claimed_context=claimed_context(config),
        vocabulary_size=graph.vocabulary_size,
        end_token_ids=end_token_ids(checkpoint.folder, config, tokenizer),
        cache=graph.cache,
        io=graph.io,
        prompt=prompt,
        source=checkpoint.source,
        passes=graph.passes,
        # Equal bits without the pass would be luck: four tokens were read.
        steady_rows=INT8_CACHE in graph.passes and measurement.steady_rows,
        prompt_rows=PROMPT_ROWS if PROMPT_ATTENTION in graph.passes else None,
        windows=graph.windows,
        parity=measurement.parity,
    )


def end_token_ids(checkpoint: Path, config: Any, tokenizer: Any) -> tuple[int, ...]:
    """Every id that ends an answer, ascending: of the generation settings, the configuration and the tokenizer."""
    from transformers import GenerationConfig

    try:
        generation = GenerationConfig.from_pretrained(checkpoint).eos_token_id
    except OSError:  # a checkpoint need not have one
        generation = None
    ids: set[int] = set()
    for found in (generation, config.eos_token_id, tokenizer.eos_token_id):
        ids.update(found if isinstance(found, (list, tuple)) else [] if found is None else [found])
    return tuple(sorted(token for token in ids if 0 <= token < config.vocab_size))


def _unfinished(checkpoint: Path, conversion: Conversion, text: Sequence[int], work: Path) -> Path:
    """Where an export keeps what is finished of a graph: another place for all that would make another graph."""
    settings = (
        conversion.precision,
        conversion.target,
        sorted(conversion.skipped_passes),
        conversion.context,
        list(text),
    )
    mark = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:12]
    return work / f"unfinished-{fingerprint(path for path in checkpoint.iterdir() if path.is_file())}-{mark}"


def _write_graph(
    model: LazyModel,
    config: Any,
    text: Sequence[int],
    conversion: Conversion,
    journal: Journal,
    progress: Progress,
) -> _WrittenGraph:
    """Convert a model and write it beside its data file."""
    role, recipe = conversion.role, conversion.recipe
    with progress.step(f"{role}: passes"):
        result = rewrite(model, config.to_dict(), recipe.rewriting, conversion.context or CONTEXT_LIMIT)
    applied = result.applied
    own = context_length(config)
    configured = min(own, conversion.context or own)
    calibration = Calibration(text, window=min(WINDOW, configured), journal=journal)
    peaks: dict[str, Any] = {}
    inputs: Iterable[Mapping[str, Any]] = ()
    kept = INT8_CACHE in recipe.finishing
    names = to_calibrate(model, recipe.precision) if recipe.calibrated else []
    if names:
        inputs = calibration.observe(model, names, peaks)
    elif kept or recipe.smoothed:
        with progress.step(f"{role}: calibration", "layers") as report:
            values = smoothable(GraphEditor(model)) if recipe.smoothed else []
            sizes, peaks = calibration.sizes(model, values, report)
        if values:
            applied += smooth(model, sizes)
    if recipe.precision != "fp32":
        with progress.step(f"{role}: quantisation to {recipe.precision}", "matrices") as report:
            quantised = quantise(model, recipe.precision, inputs=inputs, report=report, journal=journal)
            model = lazily(quantised, model.data)
    applied += finish(model, recipe.finishing, peaks=peaks if kept else None)
    return _WrittenGraph(
        io=graph_io(model.proto, result.logits_rows),
        cache=cache_shape(model.proto, result.cache_kind),
        context_length=min(configured, result.context_length or configured),
        vocabulary_size=vocabulary_size(model.proto, config.vocab_size),
        passes=applied,
        windows=windows(GraphEditor(model)),
        float_weights=float_weights(model.proto),
        files=save(model),
    )


def _measure(
    path: Path,
    graph: _WrittenGraph,
    reference: Callable[[], TorchReference],
    config: Any,
    tokenizer: Any,
    report: Report,
) -> Measurement:
    return measure(
        path,
        graph.io,
        graph.cache,
        reference,
        lambda text: tokenizer.encode(text, verbose=False),
        context_length=graph.context_length,
        sliding_window=getattr(config, "sliding_window", None),
        original_context=original_context(config),
        edges=[last_near(window) for window in graph.windows],
        report=report,
    )
