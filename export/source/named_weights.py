"""A checkpoint's weights by the names that they have in transformers, each of them a weight of its model."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nudge_onnx.errors import SourceError

from ..gguf import GGUF_FILE, open_gguf
from ..support.faults import one_line
from ..support.quiet import quiet
from ..weights import LazyTensor, open_weights
from .configuration import model_config
from .weight_names import check_report, unwrap, wrapped_by

__all__ = ["NamedWeights", "named_weights", "why_whole"]


@dataclass(frozen=True)
class NamedWeights:
    """A checkpoint's model and weights."""

    config: Any
    """The whole model's configuration."""
    kind: Any
    """The model's class."""
    weights: dict[str, LazyTensor]
    """Every parameter, and every buffer that the checkpoint holds, by its name in the model."""


def named_weights(checkpoint: Path) -> NamedWeights:
    """The weights of a checkpoint whose model is of a class of transformers, without reading them.

    Raises `SourceError`, one line, where weights are missing, left over, or of another shape. Not for a checkpoint with
    a reason of `why_whole`.
    """
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    config = model_config(checkpoint)
    kind = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    if (checkpoint / GGUF_FILE).is_file():
        file = json.loads((checkpoint / GGUF_FILE).read_text(encoding="utf-8"))["file"]
        return NamedWeights(config, kind, open_gguf(Path(file)))
    weights = open_weights(checkpoint, unwrap if wrapped_by(checkpoint) else str)
    return NamedWeights(config, kind, _renamed(weights, config, kind, checkpoint))


def why_whole(checkpoint: Path, *, trust_remote_code: bool = False) -> str | None:
    """Why a checkpoint's model can only be had with all weights in memory, if so."""
    if trust_remote_code:
        return "it brings code of its own"
    packed = getattr(model_config(checkpoint), "quantization_config", None) is not None
    return "its weights are packed" if packed else None


def _renamed(weights: Mapping[str, LazyTensor], config: Any, kind: Any, checkpoint: Path) -> dict[str, LazyTensor]:
    """By names in the model: transformers itself loads shapes without numbers, and says what does not fit."""
    import torch

    shapes = {name: torch.empty(weight.stored, device="meta") for name, weight in weights.items()}
    try:
        with quiet():
            model, report = kind.from_pretrained(
                None,
                state_dict=shapes,
                config=config,
                device_map={"": "meta"},
                dtype=torch.float32,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
    except Exception as error:  # transformers raises all kinds
        raise SourceError(f"{checkpoint}: its weights cannot be loaded ({one_line(error)})") from None
    check_report(report, checkpoint)
    places = model.state_dict().keys() | dict(model.named_buffers()).keys()
    found = {_name(name, model, places): weight for name, weight in weights.items()}
    return {name: weight for name, weight in found.items() if name in places}


def _name(name: str, model: Any, places: Any) -> str:
    """What transformers calls a weight that a file calls so."""
    for pattern, replacement in (getattr(model, "_checkpoint_conversion_mapping", None) or {}).items():
        name, count = re.subn(pattern, replacement, name)
        if count:
            break
    for old, new in (("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias")):
        name = name.replace(old, new) if name.endswith(old) else name
    prefixed = f"{model.base_model_prefix}.{name}"
    return prefixed if name not in places and prefixed in places else name
