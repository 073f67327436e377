"""From a `.gguf` file to an ordinary Hugging Face checkpoint folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from gguf import LlamaFileType
from transformers import GenerationConfig

from nudge_onnx.errors import SourceError

from .configuration import configuration_of
from .metadata import Metadata, read_metadata
from .parts import parts_of
from .tokenizer import build_tokenizer, for_transformers
from .vocabulary import Vocabulary
from .weights import load_weights

__all__ = ["PROVENANCE", "READING", "to_checkpoint"]

PROVENANCE = "provenance.json"
READING = 2
"""Raised whenever a file becomes another checkpoint than before: none that an older reader left is taken again."""


def to_checkpoint(gguf: Path, folder: Path) -> None:
    """Write a checkpoint that `from_pretrained(folder)` loads: weights in fp32, tokenizer, chat template.

    `provenance.json` beside them keeps `name`, `finetune`, `tags`, `licence`, `quantization` and `base_models` of the
    file (`None` or empty where it names none), and its `sha256`. `gguf` may be any part of a split file.

    Raises `SourceError`, one line, for a file that is not GGUF, is corrupt or truncated, or of an architecture or
    tokenizer that cannot be rebuilt exactly.
    """
    metadata = read_metadata(gguf)
    config = configuration_of(metadata)
    tokenizer, vocabulary = build_tokenizer(metadata)
    wrapped = for_transformers(tokenizer, vocabulary, metadata)
    if config["vocab_size"] != len(vocabulary.tokens):
        raise SourceError(f"{gguf} has not one embedding per token; its tokenizer belongs to another model")
    model = load_weights(metadata, config)
    _set_special_ids(model, vocabulary)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    wrapped.save_pretrained(folder)
    text = json.dumps(_provenance(gguf, metadata), indent=2, ensure_ascii=False)
    (folder / PROVENANCE).write_text(text + "\n", encoding="utf-8")


def _set_special_ids(model: Any, vocabulary: Vocabulary) -> None:
    # Without this the ids are the defaults of the architecture's config class, which are another model's.
    end_ids = list(vocabulary.end_ids)
    ids = {"bos_token_id": vocabulary.bos_id, "pad_token_id": vocabulary.padding_id}
    for key, value in ids.items():
        setattr(model.config, key, value)
    model.config.eos_token_id = end_ids[0] if len(end_ids) == 1 else end_ids
    model.generation_config = GenerationConfig(eos_token_id=end_ids, **ids)


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
