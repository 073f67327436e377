"""A GGUF file's weights as a transformers model in fp32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint
from transformers.modeling_utils import no_init_weights

from nudge_onnx.errors import SourceError

from .metadata import Metadata

__all__ = ["ARCHITECTURES", "check_architecture", "load_weights"]

ARCHITECTURES = ("gemma3", "llama", "qwen2", "qwen3")
"""Architectures whose every parameter transformers reads from a GGUF file and whose graph Optimum exports."""


def check_architecture(metadata: Metadata) -> None:
    """Raise `SourceError` for a model that transformers would load with parts missing, or not at all."""
    name = metadata.architecture
    if name not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise SourceError(
            f"{metadata.file}: architecture {name!r} is not supported ({known}); use the original checkpoint"
        )
    # transformers reads rope_theta alone, so a scaled model would go wrong without a word at long contexts.
    scaling = metadata.get(f"{name}.rope.scaling.type", str, "none")
    if scaling != "none" or "rope_freqs.weight" in metadata.tensors:
        raise SourceError(f"{metadata.file}: scaled rotary embedding is not supported; use the original checkpoint")


def load_weights(path: Path, metadata: Metadata) -> Any:
    """Dequantise the weights of a GGUF file into a `PreTrainedModel` on the CPU.

    Raises `SourceError` if a tensor is of a kind that cannot be read, is missing, is left over, or holds NaN or
    infinity.
    """
    try:
        # The steps of from_pretrained(gguf_file=...), which besides wants accelerate and looks at the file's siblings.
        config = AutoConfig.for_model(**load_gguf_checkpoint(path)["config"])
        if metadata.architecture == "gemma3":
            # The file has no such key; llama.cpp scales by the head's size where the rotary embedding is not scaled.
            config.query_pre_attn_scalar = config.head_dim
        with no_init_weights():
            model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        model.tie_weights()  # no_init_weights leaves that out too
        tensors = load_gguf_checkpoint(path, return_tensors=True, model_to_load=model)["tensors"]
        unfit = model.load_state_dict(tensors, strict=False)
    # Where it fails on a damaged file is not ours to foresee: the configuration is in there too.
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise SourceError(f"{path} cannot be loaded ({reason}); download it again") from error
    tied = set(model._tied_weights_keys or ()) if config.tie_word_embeddings else set()
    missing = sorted(set(unfit.missing_keys) - tied)
    if missing:
        raise SourceError(f"{path} lacks weights of its own architecture, such as {missing[0]}; download it again")
    # transformers drops a tensor it has no place for without a word: count them.
    expected, found = sum(metadata.tensors.values()), sum(weight.numel() for weight in model.parameters())
    if expected != found:
        raise SourceError(f"{path} holds {expected} weights, its architecture takes {found}; it is not a plain model")
    for name, weight in model.named_parameters():
        if not bool(torch.isfinite(weight).all()):
            raise SourceError(f"{path} holds NaN or infinity in {name}; download it again")
    return model.eval()
