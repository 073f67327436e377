"""The records of a manifest, `nudge.json`: the exporter fills them in, and the reader returns them.

What a manifest may hold is written down once, in `bundle.schema.json`; what a schema cannot say, how fields refer to
each other, is at the end of this module. `docs/bundle.md` says what the fields mean.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

from nudge_onnx import strict_json
from nudge_onnx.errors import BundleError
from nudge_onnx.schema import MissingFieldError, Schema, SchemaError

__all__ = [
    "FORMAT",
    "FORMAT_VERSION",
    "MANIFEST",
    "ROLES",
    "Cache",
    "Defaults",
    "FileRecord",
    "GraphIO",
    "Manifest",
    "ModelRecord",
    "Parity",
    "Prompt",
    "Source",
]

FORMAT = "nudge-onnx-bundle"
FORMAT_VERSION = "1.2"
MANIFEST = "nudge.json"
ROLES = ("base", "nudge", "proxy_base")
"""The models a bundle can hold; the first two are always there."""

_ITEM_BYTES = {"float32": 4, "float16": 2, "int8": 1}


@dataclass(frozen=True)
class GraphIO:
    """Names of a graph's inputs and outputs; `{layer}` runs from 0. `None`: the graph has no such one."""

    input_ids: str = "input_ids"
    attention_mask: str | None = "attention_mask"
    position_ids: str | None = None
    logits_rows: str | None = None
    logits: str = "logits"
    top1_id: str | None = None
    top1_probability: str | None = None
    log_sum_exp: str | None = None
    top2_logit: str | None = None
    entropy: str | None = None
    past_key: str = "past_key_values.{layer}.key"
    past_value: str = "past_key_values.{layer}.value"
    present_key: str = "present.{layer}.key"
    present_value: str = "present.{layer}.value"


@dataclass(frozen=True)
class Cache:
    """Shape of the KV cache: every tensor is `[1, kv_heads, positions, head_size]`.

    `kind` is `growing` (present = past + new) or `in_place` (past and present are one buffer of any capacity).
    """

    layers: int
    kv_heads: int
    head_size: int
    dtype: str = "float32"
    kind: str = "growing"

    @property
    def position_bytes(self) -> int:
        """Bytes that one position takes in all of the tensors."""
        return 2 * self.layers * self.kv_heads * self.head_size * _ITEM_BYTES[self.dtype]


@dataclass(frozen=True)
class Prompt:
    """How a model is prompted: a Jinja template over `messages`, `add_generation_prompt` and the names of `tokens`.

    A system prompt is the first of the messages.
    """

    template: str
    tokens: Mapping[str, str] = field(default_factory=dict)
    """Special tokens the template may name, for example `{"bos_token": "<s>"}`."""
    add_bos: bool = False
    """Put the tokenizer's own prefix (its post-processor, usually BOS) before the rendered text."""


@dataclass(frozen=True)
class Source:
    """Where a model came from."""

    name: str
    kind: str
    """`hub`, `folder` or `gguf`."""
    revision: str | None = None
    sha256: str | None = None
    licence: str | None = None


@dataclass(frozen=True)
class Parity:
    """The exported graph against PyTorch fp32, on fixed prompts."""

    positions: int
    """Positions compared."""
    max_abs: float
    """Largest difference of a logit."""
    relative: float
    """`max_abs` over the range (max - min) of PyTorch's logits."""
    top1_agreement: float
    """Share of positions with the same arg-max."""
    kl: float
    """Mean Kullback-Leibler divergence, PyTorch || graph, in nats per position."""
    greedy_agreement: float
    """Share of greedily decoded tokens before the first difference."""


@dataclass(frozen=True)
class ModelRecord:
    """One model of a bundle. Paths are relative to the bundle, with `/`."""

    graph: str
    tokenizer: str
    architecture: str
    precision: str
    context_length: int
    vocabulary_size: int
    end_token_ids: tuple[int, ...]
    cache: Cache
    prompt: Prompt
    source: Source
    io: GraphIO = field(default_factory=GraphIO)
    external_data: tuple[str, ...] = ()
    claimed_context: int | None = None
    """Positions that the checkpoint speaks of, where the bundle may read fewer; `None`: not known."""
    parameters: int | None = None
    float_weights: int | None = None
    """Weights of matrices and tables that are floats; `None`: not known."""
    passes: tuple[str, ...] = ()
    steady_rows: bool = False
    """Where it was exported, on a CPU, a row had the same bits in a pass of any size (of fewer than `prompt_rows`)."""
    prompt_rows: int | None = None
    """A pass of so many rows or more (3 at the least) is computed in another way, faster and with other last bits."""
    windows: tuple[int, ...] | None = None
    """Sliding windows whose attention reads a copy of the cache's end, far into a text; `None`: not known."""
    parity: Parity | None = None


@dataclass(frozen=True)
class Defaults:
    """What a stream uses where its caller says nothing."""

    gamma: float = 0.4
    policy: str = "word"
    draft_tokens: int = 16
    gate: str = "top1"
    gate_temperature: float = 1.0
    tail: str = "draft"
    system_prompt: str = ""


@dataclass(frozen=True)
class FileRecord:
    """Size in bytes and SHA-256 (lower-case hex) of one file."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """The content of `nudge.json`."""

    name: str
    created: str
    models: Mapping[str, ModelRecord]
    defaults: Defaults = field(default_factory=Defaults)
    shared_vocabulary: bool = False
    exporter: Mapping[str, str] = field(default_factory=dict)
    peak_memory: int | None = None
    """Bytes of memory that the export's processes held at their largest; `None`: not known."""
    files: Mapping[str, FileRecord] = field(default_factory=dict)
    format: str = FORMAT
    version: str = FORMAT_VERSION

    def to_json(self) -> str:
        """The text of `nudge.json`."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Read a manifest.

        Raises `BundleError`, one line, for broken JSON, another format, a newer major version, a field that is
        missing, ill-typed or out of range, and fields that contradict each other.
        Fields it does not know are skipped: a minor version may add some.
        """
        try:
            data = strict_json.parse(text)
        except ValueError as error:
            raise BundleError(f"{MANIFEST} is not valid JSON ({error}); export the bundle again") from None
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise BundleError(f"{MANIFEST} is not a {FORMAT} manifest; is this the right folder?")
        _check_version(data.get("version"))
        _check_roles(data.get("models"))
        try:
            manifest = _manifest(_schema().check(data))
        except MissingFieldError as error:
            raise BundleError(f"{MANIFEST} lacks the field '{error}'; export the bundle again") from None
        except SchemaError as error:
            raise BundleError(f"{MANIFEST} has an ill-formed field ({error}); export the bundle again") from None
        for reason in _contradictions(manifest):
            raise BundleError(f"{MANIFEST} {reason}; export the bundle again")
        return manifest


@cache
def _schema() -> Schema:
    return Schema(Path(__file__).with_name("bundle.schema.json").read_text(encoding="utf-8"))


def _check_version(version: Any) -> None:
    # Before the rest: another major version may mean another thing by any field.
    ours = FORMAT_VERSION.split(".")[0]
    if isinstance(version, str) and version.split(".")[0] != ours:
        found = strict_json.shown(version)[1:-1] or "(none)"
        raise BundleError(
            f"bundle format {found} is not supported, this release reads {ours}.x; "
            "update nudge-onnx or export the bundle again"
        )


def _check_roles(models: Any) -> None:
    for role in ROLES[:2]:
        if isinstance(models, dict) and role not in models:
            raise BundleError(f"{MANIFEST} lists no {role!r} model; export the bundle again")


Record = TypeVar("Record")


def _record(kind: type[Record], data: Mapping[str, Any], **nested: Any) -> Record:
    own = [f.name for f in fields(cast("Any", kind)) if f.name in data and f.name not in nested]
    values = {name: tuple(data[name]) if isinstance(data[name], list) else data[name] for name in own}
    return kind(**values, **nested)


def _model(data: Mapping[str, Any]) -> ModelRecord:
    parity = data.get("parity")
    return _record(
        ModelRecord,
        data,
        cache=_record(Cache, data["cache"]),
        prompt=_record(Prompt, data["prompt"]),
        source=_record(Source, data["source"]),
        io=_record(GraphIO, data["io"]),
        parity=_record(Parity, parity) if parity else None,
    )


def _manifest(data: Mapping[str, Any]) -> Manifest:
    return _record(
        Manifest,
        data,
        models={role: _model(data["models"][role]) for role in ROLES if role in data["models"]},
        defaults=_record(Defaults, data["defaults"]),
        files={path: _record(FileRecord, entry) for path, entry in data["files"].items()},
    )


def _contradictions(manifest: Manifest) -> Iterator[str]:
    """What fields say against each other, in words that follow the name of the manifest."""
    for role, model in manifest.models.items():
        for path in (model.graph, model.tokenizer, *model.external_data):
            if path not in manifest.files:
                yield f"uses {path} and does not list it under files"
        for what, names in (("input", _inputs(model.io)), ("output", _outputs(model.io))):
            if twin := next((name for name in names if names.count(name) > 1), None):
                yield f"names one {what} of the {role} model for two things, {strict_json.shown(twin)}"
    if manifest.defaults.policy == "token" and not manifest.shared_vocabulary:
        yield "has the default policy 'token', which needs one vocabulary, and says that there are two"


def _inputs(io: GraphIO) -> list[str]:
    return _given(io.input_ids, io.attention_mask, io.position_ids, io.logits_rows, io.past_key, io.past_value)


def _outputs(io: GraphIO) -> list[str]:
    head = (io.top1_id, io.top1_probability, io.log_sum_exp, io.top2_logit, io.entropy)
    return _given(io.logits, *head, io.present_key, io.present_value)


def _given(*names: str | None) -> list[str]:
    return [name for name in names if name is not None]
