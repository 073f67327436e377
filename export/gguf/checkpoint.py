"""From a `.gguf` file to an ordinary Hugging Face checkpoint folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from gguf import LlamaFileType
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, GenerationConfig

from nudge_onnx.errors import SourceError

from ..weights import LazyTensor
from .configuration import configuration_of
from .metadata import Metadata, read_metadata
from .parts import parts_of
from .tokenizer import build_tokenizer, for_transformers
from .vocabulary import Vocabulary
from .weights import lazy_weights

__all__ = ["GGUF_FILE", "PROVENANCE", "READING", "open_gguf", "to_checkpoint"]

GGUF_FILE = "gguf.json"
"""Of a checkpoint whose weights are still in a GGUF file: that one's path, under `file`."""

PROVENANCE = "provenance.json"
READING = 3
"""Raised whenever a file becomes another checkpoint than before: none that an older reader left is taken again."""


def to_checkpoint(gguf: Path, folder: Path, *, weights: bool = True) -> None:
    """Write a checkpoint that `from_pretrained(folder)` loads: weights in fp32, tokenizer, chat template.

    Without `weights` these stay where they are, and `gguf.json` says where. `provenance.json` beside them keeps `name`,
    `finetune`, `tags`, `licence`, `quantization` and `base_models` of the file (`None` or empty where it names none),
    and its `sha256`. `gguf` may be any part of a split file.

    Raises `SourceError`, one line, for a file that is not GGUF, is corrupt or truncated, or of an architecture or
    tokenizer that cannot be rebuilt exactly.
    """
    metadata = read_metadata(gguf)
    config = configuration_of(metadata)
    tokenizer, vocabulary = build_tokenizer(metadata)
    wrapped = for_transformers(tokenizer, vocabulary, metadata)
    if config["vocab_size"] != len(vocabulary.tokens):
        raise SourceError(f"{gguf} has not one embedding per token; its tokenizer belongs to another model")
    found = lazy_weights(metadata, config)
    ids = _special_ids(vocabulary)
    configured = AutoConfig.for_model(**(config | ids))
    configured.architectures = [MODEL_FOR_CAUSAL_LM_MAPPING[type(configured)].__name__]
    folder.mkdir(parents=True, exist_ok=True)
    configured.save_pretrained(folder)
    GenerationConfig(**(ids | {"eos_token_id": list(vocabulary.end_ids)})).save_pretrained(folder)
    wrapped.save_pretrained(folder)
    if weights:
        _save_weights(found, folder)
    else:
        (folder / GGUF_FILE).write_text(json.dumps({"file": str(gguf.resolve())}), encoding="utf-8")
    text = json.dumps(_provenance(gguf, metadata), indent=2, ensure_ascii=False)
    (folder / PROVENANCE).write_text(text + "\n", encoding="utf-8")


def open_gguf(gguf: Path) -> dict[str, LazyTensor]:
    """The weights of a GGUF file under their names in transformers; raises `SourceError` as `to_checkpoint` does."""
    metadata = read_metadata(gguf)
    return lazy_weights(metadata, configuration_of(metadata))


def _save_weights(found: Mapping[str, LazyTensor], folder: Path) -> None:
    """In one file, as transformers names them."""
    from safetensors.numpy import save_file

    save_file(
        {name: np.asarray(weight) for name, weight in found.items()}, folder / "model.safetensors", {"format": "pt"}
    )


def _special_ids(vocabulary: Vocabulary) -> dict[str, Any]:
    # Without this the ids are the defaults of the architecture's config class, which are another model's.
    end_ids = list(vocabulary.end_ids)
    return {
        "bos_token_id": vocabulary.bos_id,
        "pad_token_id": vocabulary.padding_id,
        "eos_token_id": end_ids[0] if len(end_ids) == 1 else end_ids,
    }


def _provenance(gguf: Path, metadata: Metadata) -> dict[str, Any]:
    count = metadata.get("general.base_model.count", int, 0)
    return {
        "name": metadata.get("general.name", str, "") or None,
        "finetune": metadata.get("general.finetune", str, "") or None,
        "tags": [str(tag) for tag in metadata.get("general.tags", list, [])],
        "organization": metadata.get("general.organization", str, "") or None,
        "licence": metadata.get("general.license", str, "") or None,
        "licence_link": metadata.get("general.license.link", str, "") or None,
        "file": metadata.file,
        "sha256": _sha256(parts_of(gguf)),
        "quantization": _quantization(metadata),
        "base_models": [
            {key: metadata.get(f"general.base_model.{n}.{key}", str, "") or None for key in ("name", "repo_url")}
            for n in range(count)
        ],
    }


def _sha256(parts: Sequence[Path]) -> str:
    """Of the parts' bytes, one part behind the other."""
    digest = sha256()
    for part in parts:
        with part.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _quantization(metadata: Metadata) -> str | None:
    try:
        name: str = LlamaFileType(metadata.require("general.file_type", int)).name
    except (SourceError, ValueError):
        return None
    return name.removeprefix("MOSTLY_")
