"""A GGUF file's weights as those of a transformers model in fp32.

Names, the order of rows and the norms' offsets are undone here, as llama.cpp's conversion makes them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import AutoConfig

from nudge_onnx.errors import SourceError

from ..weights import LazyTensor, parameter_shapes
from .metadata import Metadata
from .reader import Tensor
from .rotary import FACTORS, LONG, SHORT

__all__ = ["lazy_weights"]

Array = NDArray[np.float32]

OUTSIDE = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
INSIDE = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_qkv": "self_attn.qkv_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "post_ffw_norm": "post_feedforward_layernorm",
}
GEMMA_INSIDE = INSIDE | {"ffn_norm": "pre_feedforward_layernorm"}
RENAMED: Mapping[str, Mapping[str, str]] = {
    "gemma2": GEMMA_INSIDE,
    "gemma3": GEMMA_INSIDE,
    "phi3": INSIDE | {"ffn_up": "mlp.gate_up_proj"},
}
PERMUTED = ("llama", "mistral", "olmo")
"""llama.cpp turns neighbours in a head where transformers turns what lies half a head apart: rows are reordered."""
SHIFTED = ("gemma", "gemma2", "gemma3")
"""Files hold the norms' weights plus one, which is what they multiply with."""
ROTARY = (FACTORS, LONG, SHORT)
"""Tensors that belong to the configuration."""
_LAYER = re.compile(r"blk\.(\d+)\.(\w+)\.(weight|bias)", re.ASCII)
_ATTENTION_BIAS = re.compile(r"self_attn\.[qkvo]_proj\.bias$")


def lazy_weights(metadata: Metadata, config: Mapping[str, Any]) -> dict[str, LazyTensor]:
    """Every parameter of a transformers model of this configuration, as a GGUF file holds it, without reading it.

    Raises `SourceError` if a tensor is of a kind that cannot be read, is missing, is left over, or has another shape
    than the configuration gives it; so does reading one that holds NaN or infinity.
    """
    file = metadata.file
    # Tied weights are one parameter, and it has the name of the embedding here.
    wanted = _parameters(config, file)
    found: dict[str, LazyTensor] = {}
    for name, tensor in _renamed(metadata):
        shape = wanted.pop(name, None)
        if shape is None:
            raise SourceError(f"{file} holds {name}, which its architecture has no place for; it is not a plain model")
        if tensor.shape != shape:
            raise SourceError(
                f"{file}: {name} is of shape {tensor.shape}, its metadata ask for {shape}; "
                "convert the model to GGUF again"
            )
        found[name] = _as_transformers(_lazy(tensor, name, file), name, metadata.architecture, config)
    for name in list(wanted):
        # Llama's configuration has biases for all four or for none; a file may have them for three.
        if _ATTENTION_BIAS.search(name) and metadata.architecture in ("llama", "mistral"):
            found[name] = LazyTensor(wanted.pop(name), lambda start, stop: np.zeros(stop - start, np.float32))
    if wanted:
        raise SourceError(f"{file} lacks weights of its own architecture, such as {min(wanted)}; download it again")
    return found


def _parameters(config: Mapping[str, Any], file: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the parameters of a model."""
    try:
        return parameter_shapes(AutoConfig.for_model(**config))
    except (ValueError, KeyError, RuntimeError, ArithmeticError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise SourceError(f"{file}: there is no model of its sizes ({reason}); convert it to GGUF again") from error


def _renamed(metadata: Metadata) -> Iterator[tuple[str, Tensor]]:
    """Every tensor under its name in transformers; one without a place keeps its own."""
    inside = RENAMED.get(metadata.architecture, INSIDE)
    for name, tensor in metadata.tensors.items():
        if name in ROTARY:
            continue
        layer = _LAYER.fullmatch(name)
        if layer is not None and layer[2] in inside:
            yield f"model.layers.{layer[1]}.{inside[layer[2]]}.{layer[3]}", tensor
        else:
            yield OUTSIDE.get(name, name), tensor


def _lazy(tensor: Tensor, name: str, file: str) -> LazyTensor:
    def read(start: int, stop: int) -> Array:
        try:
            rows = tensor.read(start, stop)
        except (NotImplementedError, ValueError) as error:
            raise SourceError(
                f"{file}: {name} is of kind {tensor.kind.name}, which cannot be unpacked; use another quantization"
            ) from error
        if not bool(np.isfinite(rows).all()):
            raise SourceError(f"{file} holds NaN or infinity in {name}; download it again")
        return rows

    read(0, min(1, tensor.shape[0]))  # a kind that cannot be unpacked is said at once
    return LazyTensor(tensor.shape, read)


def _as_transformers(weight: LazyTensor, name: str, architecture: str, config: Mapping[str, Any]) -> LazyTensor:
    if architecture in SHIFTED and name.endswith("norm.weight"):
        return LazyTensor(weight.stored, lambda start, stop: weight.read(start, stop) - 1)
    if architecture in PERMUTED and ".self_attn.q_proj." in name:
        return _halves_apart(weight, config["num_attention_heads"])
    if architecture in PERMUTED and ".self_attn.k_proj." in name:
        return _halves_apart(weight, config["num_key_value_heads"])
    return weight


def _halves_apart(weight: LazyTensor, heads: int) -> LazyTensor:
    """Rows 2i and 2i + 1 of a head become rows i and half a head + i."""
    size = len(weight) // heads
    order = np.arange(size).reshape(-1, 2).T.ravel()

    def read(start: int, stop: int) -> Array:
        first = start - start % size
        places = np.arange(start, stop)
        rows = weight.read(first, min(len(weight), -(-stop // size) * size))
        turned: Array = rows[places - places % size + order[places % size] - first]
        return turned

    return LazyTensor(weight.stored, read)
