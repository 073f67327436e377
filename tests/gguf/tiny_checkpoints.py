"""Tiny random checkpoints of each architecture, and the GGUF files that llama.cpp's conversion would make of them.

Names of tensors are those of the `gguf` package's own tables, not of the code under test.
`python tiny_checkpoints.py FOLDER` writes all files, for `record_llama_cpp_logits.py`.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import MODEL_ARCH, MODEL_ARCH_NAMES, GGUFWriter, get_tensor_name_map
from numpy.typing import NDArray
from tiny_gguf import TOKENS, add_value, byte_level_values
from transformers import AutoConfig, AutoModelForCausalLM

__all__ = ["CASES", "Case", "random_model", "write_gguf"]

Array = NDArray[np.float32]
Case = tuple[str, dict[str, Any], dict[str, Any]]
"""`general.architecture`, changes to the configuration of transformers, and keys besides the common ones."""

HIDDEN, HEADS, KV_HEADS, HEAD, LAYERS, CONTEXT = 64, 4, 2, 16, 3, 64
LLAMA_3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
OWN = {"factor": 4.0, "low_freq_factor": 1.5, "high_freq_factor": 6.0, "original_max_position_embeddings": 512}
LISTS = {"short_factor": [1.0 + n / 8 for n in range(8)], "long_factor": [2.0 + n for n in range(8)]}
WIDE = {"head_dim": 32}

CASES: dict[str, Case] = {
    "llama": ("llama", {}, {}),
    "llama-tied": ("llama", {"tie_word_embeddings": True}, {}),
    "llama-biased": ("llama", {"attention_bias": True, "mlp_bias": True}, {}),
    "llama-wide-heads": ("llama", WIDE, {}),
    "llama-linear": (
        "llama",
        {"rope_scaling": {"rope_type": "linear", "factor": 4.0}},
        {"rope.scaling.type": "linear", "rope.scaling.factor": 4.0},
    ),
    "llama-factor-without-type": (
        "llama",
        {"rope_scaling": {"rope_type": "linear", "factor": 4.0}},
        {"rope.scaling.factor": 4.0},
    ),
    "llama-scale-linear": (
        "llama",
        {"rope_scaling": {"rope_type": "linear", "factor": 2.0}},
        {"rope.scale_linear": 2.0},
    ),
    "llama-factor-1": ("llama", {}, {"rope.scaling.type": "linear", "rope.scaling.factor": 1.0}),
    "llama-3.1": ("llama", {"rope_scaling": {"rope_type": "llama3", **LLAMA_3}}, {}),
    "llama-3-by-other-figures": (
        "llama",
        {"rope_scaling": {"rope_type": "llama3", **OWN}, "head_dim": 64},
        {"rope.scaling.original_context_length": 512},
    ),
    "llama-few-keys": (
        "llama",
        {"num_key_value_heads": HEADS},
        {
            "-": [
                "attention.head_count_kv",
                "attention.key_length",
                "attention.value_length",
                "rope.dimension_count",
                "rope.freq_base",
                "vocab_size",
            ]
        },
    ),
    "mistral": ("mistral", {"sliding_window": None}, {}),
    "mistral-window": ("mistral", {"sliding_window": 8}, {"attention.sliding_window": 8}),
    "mistral-window-linear": (
        "mistral",
        {"sliding_window": 8, "rope_scaling": {"rope_type": "linear", "factor": 4.0}},
        {"attention.sliding_window": 8, "rope.scaling.factor": 4.0},
    ),
    "gemma": ("gemma", WIDE, {}),
    "gemma2": (
        "gemma2",
        WIDE | {"sliding_window": 8, "query_pre_attn_scalar": 32},
        {"attention.sliding_window": 8, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0},
    ),
    "gemma2-own-scale": (
        "gemma2",
        WIDE | {"query_pre_attn_scalar": 16, "attn_logit_softcapping": 20.0, "final_logit_softcapping": 10.0},
        {"attention.scale": 0.25, "attn_logit_softcapping": 20.0, "final_logit_softcapping": 10.0},
    ),
    "gemma2-linear": (
        "gemma2",
        WIDE | {"query_pre_attn_scalar": 32, "rope_scaling": {"rope_type": "linear", "factor": 4.0}},
        {"rope.scale_linear": 4.0},
    ),
    "gemma2-27b": ("gemma2", WIDE | {"num_hidden_layers": 46, "query_pre_attn_scalar": HIDDEN // HEADS}, {}),
    "gemma3": (
        "gemma3",
        WIDE | {"num_hidden_layers": 7, "sliding_window": 8, "query_pre_attn_scalar": 32, "rope_theta": 1e6},
        {"attention.sliding_window": 8},
    ),
    "gemma3-own-scale": (
        "gemma3",
        WIDE | {"sliding_window": 8, "query_pre_attn_scalar": 16, "rope_theta": 1e6},
        {"attention.sliding_window": 8, "attention.scale": 0.25, "rope.freq_base": 1e6},
    ),
    "gemma3-linear": (
        "gemma3",
        WIDE
        | {
            "num_hidden_layers": 7,
            "sliding_window": 8,
            "query_pre_attn_scalar": 32,
            "rope_theta": 1e6,
            "rope_scaling": {"rope_type": "linear", "factor": 8.0},
        },
        {"attention.sliding_window": 8, "rope.scaling.type": "linear", "rope.scaling.factor": 8.0},
    ),
    "olmo": ("olmo", {"clip_qkv": None}, {"attention.layer_norm_epsilon": 1e-5}),
    "olmo-clipped": ("olmo", {"clip_qkv": 0.5}, {"attention.layer_norm_epsilon": 1e-5, "attention.clamp_kqv": 0.5}),
    "olmo2": ("olmo2", {}, {}),
    "phi3": ("phi3", {"sliding_window": None}, {"attention.sliding_window": 0}),
    "phi3-window": ("phi3", {"sliding_window": 8}, {"attention.sliding_window": 8}),
    "phi3-partial": ("phi3", {"partial_rotary_factor": 0.5}, {"rope.dimension_count": 8}),
    "phi3-long": (
        "phi3",
        {"rope_scaling": {"type": "longrope", **LISTS}, "original_max_position_embeddings": 32},
        {"rope.scaling.original_context_length": 32, "rope.scaling.attn_factor": math.sqrt(1 + 1 / 5)},
    ),
    "qwen2": ("qwen2", {}, {}),
    "qwen3": ("qwen3", WIDE, {}),
}
MODEL_TYPES = {"gemma3": "gemma3_text"}


def random_model(case: Case) -> Any:
    """A `PreTrainedModel` with random weights, norms and biases too."""
    architecture, changes, _ = case
    config = AutoConfig.for_model(
        MODEL_TYPES.get(architecture, architecture),
        **{
            "vocab_size": len(TOKENS),
            "hidden_size": HIDDEN,
            "intermediate_size": 96,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS,
            "num_key_value_heads": KV_HEADS,
            "head_dim": HEAD,
            "max_position_embeddings": CONTEXT,
            "rope_theta": 10000.0,
            "rms_norm_eps": 1e-6,
            "tie_word_embeddings": architecture.startswith("gemma"),
            "pad_token_id": None,
            "bos_token_id": None,
            "eos_token_id": None,
            "attn_implementation": "eager",
        }
        | changes,
    )
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    draw = np.random.default_rng(0)
    for parameter in model.parameters():
        weight = draw.standard_normal(tuple(parameter.shape), dtype=np.float32)
        parameter.data.copy_(torch.from_numpy(weight * np.float32(0.2)))
    return model


def write_gguf(path: Path, model: Any, case: Case, architecture: str = "") -> None:
    """Write what llama.cpp's conversion makes of `model`, in fp32; it names Mistral `llama`."""
    architecture, keys = architecture or case[0], case[2]
    config = model.config
    written = "llama" if architecture == "mistral" else architecture
    kind = next(kind for kind, name in MODEL_ARCH_NAMES.items() if name == written)
    writer = GGUFWriter(path, architecture)
    values = {key: value for key, value in byte_level_values().items() if not key.startswith("llama.")}
    common = {
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.key_length": config.head_dim,
        "attention.value_length": config.head_dim,
        "attention.layer_norm_rms_epsilon": 1e-6,
        "rope.dimension_count": config.head_dim,
        "rope.freq_base": float(config.rope_theta),
        "vocab_size": config.vocab_size,
    }
    own = {key: value for key, value in (common | keys).items() if key not in keys.get("-", ()) and key != "-"}
    values |= {f"{architecture}.{key}": value for key, value in own.items()} | {"general.architecture": architecture}
    for key, value in values.items():
        add_value(writer, key, value)
    for name, tensor in _tensors(model, written, kind):
        writer.add_tensor(name, np.ascontiguousarray(tensor))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _tensors(model: Any, architecture: str, kind: MODEL_ARCH) -> list[tuple[str, Array]]:
    config = model.config
    names = get_tensor_name_map(kind, config.num_hidden_layers)
    tensors: list[tuple[str, Array]] = []
    for name, parameter in model.named_parameters():
        weight = parameter.detach().numpy()
        if architecture.startswith("gemma") and name.endswith("norm.weight"):
            weight = weight + 1
        if architecture in ("llama", "olmo") and ("q_proj" in name or "k_proj" in name):
            heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
            halves = weight.reshape(heads, 2, -1, *weight.shape[1:])
            weight = halves.swapaxes(1, 2).reshape(weight.shape)
        stored = names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert stored is not None, name
        tensors.append((stored, weight))
    return tensors + _factors(getattr(config, "rope_scaling", None), config)


def _factors(scaling: Mapping[str, Any] | None, config: Any) -> list[tuple[str, Array]]:
    kind = scaling and scaling.get("rope_type", scaling.get("type"))
    if scaling is not None and kind == "longrope":
        lists = (("rope_factors_long.weight", "long_factor"), ("rope_factors_short.weight", "short_factor"))
        return [(name, np.array(scaling[key], dtype=np.float32)) for name, key in lists]
    if scaling is None or kind != "llama3":
        return []
    # The quotient of both sets of frequencies that transformers computes.
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    plain = 1.0 / config.rope_theta ** (torch.arange(0, config.head_dim, 2) / config.head_dim)
    return [("rope_freqs.weight", (plain / scaled).numpy().astype(np.float32))]


def main() -> None:
    """Write the file of every case to a folder."""
    for name, case in CASES.items():
        architecture = "llama" if case[0] == "mistral" else case[0]
        write_gguf(Path(sys.argv[1]) / f"{name}.gguf", random_model(case), case, architecture)


if __name__ == "__main__":
    main()
