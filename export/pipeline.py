"""The way of the data: sources, checkpoints, graphs, passes, precision, measurement, bundle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nudge_onnx.bundle import Bundle, Defaults, Manifest, ModelRecord, Prompt
from nudge_onnx.choices import Precision, Target
from nudge_onnx.errors import ExportError, SourceError

from .bundle.record import Conversion, end_token_ids, export_model
from .bundle.writer import Staging, check_target, file_records, staged
from .recipes import PRECISION_OF_TARGET
from .source.configuration import load_config
from .source.prompts import BASE_TEMPLATE, base_prompt, chat_prompt, looks_aligned, read_template
from .source.sources import Checkpoint, fetch
from .source.tokenizer_file import load_tokenizer, same_vocabulary, tokens_without_rows
from .source.weight_names import wrapped_by
from .support.memory import gibibytes, peak_memory
from .support.progress import Progress

__all__ = ["Request", "export"]

_POOR_AGREEMENT = 0.8
"""Of the most likely tokens; block-wise int8 keeps above 0.95 even of very small models."""

_BROKEN_AGREEMENT = 0.5
"""Below this a graph is hardly the model that it was made from; what rounding alone costs is less."""

_LIBRARIES = ("nudge-onnx", "optimum-onnx", "optimum", "transformers", "torch", "onnx", "onnxruntime", "tokenizers")


@dataclass(frozen=True)
class Request:
    """What to export and how. Sources, revisions and precisions are keyed by role: `base`, `nudge`, `proxy_base`."""

    sources: Mapping[str, str]
    output: Path
    target: Target = "cpu"
    precisions: Mapping[str, Precision] = field(default_factory=dict)
    """A role that is missing gets the precision of `target`."""
    revisions: Mapping[str, str | None] = field(default_factory=dict)
    trust_remote_code: bool = False
    base_template: str | None = None
    """File or text of the base model's Jinja template."""
    chat_template: str | None = None
    """File, text or name of the nudging model's Jinja template; `None`: its own."""
    defaults: Defaults = field(default_factory=Defaults)
    name: str | None = None
    skipped_passes: tuple[str, ...] = ()
    context: int | None = None
    """Positions that each model reads at most; `None`: its own, and 32,768 where a table of positions is kept."""
    allow_poor_parity: bool = False
    """Whether a graph may agree with PyTorch in less than half of the most likely tokens."""
    overwrite: bool = False
    work: Path | None = None
    """Folder that keeps unpacked checkpoints and Optimum's graphs for further exports, and what is finished of a model;
    `None` throws them away."""


@dataclass(frozen=True)
class _Model:
    """A checkpoint with everything that is read before the long work begins."""

    checkpoint: Checkpoint
    config: Any
    tokenizer: Any
    prompt: Prompt


def export(request: Request, progress: Progress) -> Bundle:
    """Export all models of `request` and return the finished bundle.

    Raises `SourceError` or `ExportError`, one line each; nothing is then left at `request.output`.
    """
    check_target(request.output, overwrite=request.overwrite)
    base_template = BASE_TEMPLATE if request.base_template is None else read_template(request.base_template)
    with staged(request.output, overwrite=request.overwrite) as staging:
        work = request.work or staging.work
        models = {role: _read(role, request, base_template, work, progress) for role in request.sources}
        shared = same_vocabulary(models["base"].tokenizer, models["nudge"].tokenizer)
        if request.defaults.policy == "token" and not shared:
            raise ExportError("policy 'token' needs one vocabulary, and these tokenizers differ; use --policy word")
        records = {role: _convert(role, model, request, staging, work, progress) for role, model in models.items()}
        with progress.step("bundle: checksums"):
            manifest = _manifest(request, records, shared, staging)
            staging.write_manifest(manifest)
    if manifest.peak_memory:
        progress.note(f"peak memory {gibibytes(manifest.peak_memory)}")
    return Bundle.open(request.output)


def _read(role: str, request: Request, base_template: str, work: Path, progress: Progress) -> _Model:
    src, trust = request.sources[role], request.trust_remote_code
    with progress.step(f"{role}: download"):
        checkpoint = fetch(src, work, revision=request.revisions.get(role), trust_remote_code=trust, note=progress.note)
    if prefix := wrapped_by(checkpoint.folder):
        progress.note(f"{role}: the names of its weights begin with {prefix!r}, which is taken off")
    config = load_config(checkpoint.folder, trust_remote_code=trust)
    tokenizer = load_tokenizer(checkpoint.folder, trust_remote_code=trust)
    if without_rows := tokens_without_rows(tokenizer, config.vocab_size, src):
        progress.note(f"{role}: the model has no rows for {without_rows}; texts that hold them are refused")
    if role == "nudge":
        prompt = chat_prompt(tokenizer, src, rows=config.vocab_size, chosen=request.chat_template)
        if not end_token_ids(checkpoint.folder, config, tokenizer):
            raise SourceError(f"{src} names no end token, so a nudging model of it could never end an answer")
        return _Model(checkpoint, config, tokenizer, prompt)
    if looks_aligned(tokenizer, " ".join([src, checkpoint.source.name, *checkpoint.aliases])):
        progress.note(f"warning: {src} looks like an instruct model; the {role} model should be a pretrained one")
    return _Model(checkpoint, config, tokenizer, base_prompt(base_template))


def _convert(
    role: str, model: _Model, request: Request, staging: Staging, work: Path, progress: Progress
) -> ModelRecord:
    conversion = Conversion(
        role=role,
        precision=request.precisions.get(role, PRECISION_OF_TARGET[request.target]),
        target=request.target,
        skipped_passes=request.skipped_passes,
        context=request.context,
        trust_remote_code=request.trust_remote_code,
    )
    record = export_model(
        model.checkpoint,
        model.config,
        model.tokenizer,
        model.prompt,
        conversion,
        bundle=staging.bundle,
        work=work,
        progress=progress,
        keep=request.work is not None,
    )
    _check_agreement(record, request, progress)
    for remark in _remarks(record):
        progress.note(f"{role}: {remark}")
    return record


def _remarks(record: ModelRecord) -> Iterator[str]:
    """What a user would not expect of this model."""
    claimed = record.claimed_context or 0
    if record.context_length < claimed:
        yield f"texts of up to {record.context_length:,} tokens, of {claimed:,} that the checkpoint speaks of"
    if record.precision.startswith("int") and record.float_weights and record.parameters:
        share = record.float_weights / record.parameters
        yield f"{record.float_weights:,} weights stay in floats, {share:.0%} of them all"
    if record.cache.kind == "growing":
        yield "the cache is copied at every step, which slows down behind long texts"


def _check_agreement(record: ModelRecord, request: Request, progress: Progress) -> None:
    agreement = record.parity.top1_agreement if record.parity is not None else 1.0
    if agreement >= _POOR_AGREEMENT:
        return
    kept = f"in {record.precision} {record.source.name} keeps only {agreement:.0%} of its most likely tokens"
    if agreement < _BROKEN_AGREEMENT and not request.allow_poor_parity:
        raise ExportError(f"{kept}; choose a higher --precision, or accept this with --allow-poor-parity")
    progress.note(f"warning: {kept}; a higher precision keeps more of its quality")


def _manifest(request: Request, records: Mapping[str, ModelRecord], shared: bool, staging: Staging) -> Manifest:
    names = [records[role].source.name.rsplit("/", 1)[-1] for role in ("base", "nudge")]
    return Manifest(
        name=request.name or " + ".join(names),
        created=datetime.now(tz=UTC).isoformat(timespec="seconds"),
        models=records,
        defaults=request.defaults,
        shared_vocabulary=shared,
        exporter={library: version(library) for library in _LIBRARIES},
        peak_memory=peak_memory(),
        files=file_records(staging.bundle),
    )
