"""The bundle: a folder that holds two exported models and one manifest, `nudge.json`.

`docs/bundle.md` specifies the format for readers in any language; this module is the Python reader and
the record types that the exporter fills in. It opens no model and executes nothing of what it reads.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar, cast

from .errors import BundleError

__all__ = [
    "FORMAT",
    "FORMAT_VERSION",
    "MANIFEST",
    "ROLES",
    "Bundle",
    "Cache",
    "Defaults",
    "FileRecord",
    "GraphIO",
    "Manifest",
    "ModelRecord",
    "Parity",
    "Prompt",
    "Source",
    "sha256_of",
]

FORMAT = "nudge-onnx-bundle"
FORMAT_VERSION = "1.1"
MANIFEST = "nudge.json"
ROLES = ("base", "nudge", "proxy_base")
"""The models a bundle can hold; the first two are always there."""


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
    parameters: int | None = None
    passes: tuple[str, ...] = ()
    steady_rows: bool = False
    """Where it was exported, on a CPU, a row had the same bits in a pass of any size (of fewer than `prompt_rows`)."""
    prompt_rows: int | None = None
    """A pass of so many rows or more is computed in another way, faster and with other last bits."""
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
    files: Mapping[str, FileRecord] = field(default_factory=dict)
    format: str = FORMAT
    version: str = FORMAT_VERSION

    def to_json(self) -> str:
        """The text of `nudge.json`."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Read a manifest.

        Raises `BundleError` for broken JSON, another format, a newer major version, a missing or ill-typed field.
        Fields it does not know are skipped: a minor version may add some.
        """
        try:
            data = json.loads(text)
        except ValueError as error:
            raise BundleError(f"{MANIFEST} is not valid JSON ({error}); export the bundle again") from None
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise BundleError(f"{MANIFEST} is not a {FORMAT} manifest; is this the right folder?")
        version = str(data.get("version", ""))
        ours = FORMAT_VERSION.split(".")[0]
        if version.split(".")[0] != ours:
            raise BundleError(
                f"bundle format {version or '(none)'} is not supported, this release reads {ours}.x; "
                "update nudge-onnx or export the bundle again"
            )
        try:
            manifest = _manifest(data)
        except KeyError as error:
            raise BundleError(f"{MANIFEST} lacks the field {error}; export the bundle again") from None
        except (TypeError, ValueError, AttributeError) as error:
            raise BundleError(f"{MANIFEST} has an ill-formed field ({error}); export the bundle again") from None
        for role in ROLES[:2]:
            if role not in manifest.models:
                raise BundleError(f"{MANIFEST} lists no {role!r} model; export the bundle again")
        return manifest


Record = TypeVar("Record")


def _record(kind: type[Record], data: Mapping[str, Any], **nested: Any) -> Record:
    own = fields(cast("Any", kind))
    values = {f.name: data[f.name] for f in own if f.name in data and f.name not in nested}
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    missing = [f.name for f in own if f.name not in data and f.default is MISSING and f.default_factory is MISSING]
    if missing:
        raise KeyError(", ".join(missing))
    return kind(**values, **nested)


def _model(data: Mapping[str, Any]) -> ModelRecord:
    parity = data.get("parity")
    return _record(
        ModelRecord,
        data,
        cache=_record(Cache, data["cache"]),
        prompt=_record(Prompt, data["prompt"]),
        source=_record(Source, data["source"]),
        io=_record(GraphIO, data.get("io", {})),
        parity=_record(Parity, parity) if parity else None,
    )


def _manifest(data: Mapping[str, Any]) -> Manifest:
    return _record(
        Manifest,
        data,
        models={role: _model(model) for role, model in data["models"].items() if role in ROLES},
        defaults=_record(Defaults, data.get("defaults", {})),
        files={path: _record(FileRecord, entry) for path, entry in data["files"].items()},
    )


@dataclass(frozen=True)
class Bundle:
    """An opened bundle: its folder and its manifest."""

    folder: Path
    manifest: Manifest

    @classmethod
    def open(cls, folder: str | Path) -> Bundle:
        """Read and check a bundle without reading its weights.

        Raises `BundleError` naming what is wrong: no such folder, no manifest, a newer major version, a file that is
        missing, of another size, outside the folder, or reached by a symbolic link that leaves it.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise BundleError(f"{folder} is not a folder; give the folder that nudge-export wrote")
        path = folder / MANIFEST
        if not path.is_file():
            raise BundleError(f"{folder} holds no {MANIFEST}; give the folder that nudge-export wrote")
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BundleError(f"{path} cannot be read ({error})") from None
        bundle = cls(folder, Manifest.from_json(text))
        bundle._check_paths()
        return bundle

    def path(self, relative: str) -> Path:
        """The path of a file of this bundle; raises `BundleError` if it would leave the folder."""
        pure = PurePosixPath(relative)
        if pure.is_absolute() or ".." in pure.parts or "\\" in relative or ":" in relative:
            raise BundleError(f"{MANIFEST} names {relative!r}, a path that leaves the bundle; do not use this bundle")
        path = self.folder.joinpath(*pure.parts)
        if not path.resolve().is_relative_to(self.folder.resolve()):
            raise BundleError(f"{relative} is a symbolic link that leaves the bundle; do not use this bundle")
        return path

    def verify(self, progress: Any = None) -> None:
        """Read every file and compare its SHA-256 with the manifest; `progress(path)` is called before each.

        Raises `BundleError` for the first file that differs.
        """
        for relative, record in self.manifest.files.items():
            if progress is not None:
                progress(relative)
            if sha256_of(self.path(relative)) != record.sha256:
                raise BundleError(
                    f"{relative} does not match its SHA-256; the bundle was changed, export or copy it again"
                )

    def _check_paths(self) -> None:
        files = self.manifest.files
        for relative in self._referenced():
            if relative not in files:
                raise BundleError(
                    f"{MANIFEST} uses {relative} and does not list it under files; export the bundle again"
                )
        for relative, record in files.items():
            path = self.path(relative)
            if not path.is_file():
                raise BundleError(f"{relative} is missing from the bundle; copy or export it again")
            if path.stat().st_size != record.bytes:
                raise BundleError(
                    f"{relative} has {path.stat().st_size} bytes instead of {record.bytes}; "
                    "it is truncated or was changed, copy or export it again"
                )

    def _referenced(self) -> Iterable[str]:
        for model in self.manifest.models.values():
            yield model.graph
            yield model.tokenizer
            yield from model.external_data


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, lower-case hex."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
