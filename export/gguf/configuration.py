"""What a GGUF file says of its model, as the configuration that transformers has for it.

Where a file leaves a key out, llama.cpp's default for it holds, not that of transformers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from nudge_onnx.errors import SourceError

from .keys import Keys
from .metadata import Metadata
from .rotary import rotary_of

__all__ = ["ARCHITECTURES", "configuration_of"]

Config = dict[str, Any]

CONTEXT = "context_length"
SCALE = "attention.scale"
WINDOW = "attention.sliding_window"
OLMO_EPSILON = 1e-5
"""OLMo's norm has no other in transformers, and none in its checkpoints."""
GEMMA_27B_LAYERS = {"gemma2": 46, "gemma3": 62}
"""These two scale attention by hidden size / heads. A file does not say so: llama.cpp goes by the number of layers."""


@dataclass(frozen=True)
class Architecture:
    """How one `general.architecture` becomes a configuration."""

    model_type: str
    """What transformers calls it."""
    own: Callable[[Keys, Config], Config]
    """Its keys besides those that all have, given what those made."""
    epsilon: str = "layer_norm_rms_epsilon"
    partial_rotary: bool = False
    """Whether fewer dimensions of a head than all may be turned."""
    scaled_rotary: bool = True


def configuration_of(metadata: Metadata) -> Config:
    """Arguments of `AutoConfig.for_model`.

    Raises `SourceError` for an architecture that is not known, and for every key of its namespace that is not
    understood and may change the model.
    """
    name = metadata.architecture
    if name not in ARCHITECTURES:
        known = ", ".join(sorted(ARCHITECTURES))
        raise SourceError(f"{metadata.file}: architecture {name!r} is not supported ({known}); use another checkpoint")
    kind = metadata.get("general.type", str, "model")
    if kind != "model":
        raise SourceError(f"{metadata.file} is of type {kind!r} and no model; give the model's own .gguf file")
    architecture, keys = ARCHITECTURES[name], Keys(metadata)
    config = _common(keys, architecture)
    config |= architecture.own(keys, config)
    keys.refuse_the_rest()
    return config


def _common(keys: Keys, architecture: Architecture) -> Config:
    hidden, heads = keys.size("embedding_length"), keys.size("attention.head_count")
    head = keys.size("attention.key_length", hidden // heads or 1)
    if keys.size("attention.value_length", head) != head:
        raise keys.refuse("attention.value_length", f"a key has {head} dimensions")
    turned = keys.size("rope.dimension_count", head)
    if turned != head and not architecture.partial_rotary:
        raise keys.refuse("rope.dimension_count", f"a head has {head} dimensions, and all must be turned")
    layers, embedding = keys.size("block_count"), _embedding(keys.metadata)
    # Before a model of these sizes is made: a wrong byte may ask for more than the memory.
    if layers > len(keys.metadata.tensors):
        raise keys.refuse("block_count", f"the file holds {len(keys.metadata.tensors)} tensors")
    if embedding[-1] != hidden:
        raise keys.refuse("embedding_length", f"token_embd.weight has rows of {embedding[-1]}")
    config: Config = {
        "model_type": architecture.model_type,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": keys.size("attention.head_count_kv", heads),
        "head_dim": head,
        "intermediate_size": keys.size("feed_forward_length"),
        "max_position_embeddings": keys.size(CONTEXT),
        "vocab_size": embedding[0],
        "tie_word_embeddings": "output.weight" not in keys.metadata.tensors,
        # Set later, from the tokenizer; the defaults are another model's, and may lie beyond the vocabulary.
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
    }
    if architecture.epsilon == "layer_norm_rms_epsilon":
        config["rms_norm_eps"] = keys.real(f"attention.{architecture.epsilon}")
        keys.ignore("attention.layer_norm_epsilon")
    config |= rotary_of(keys, turned, config["max_position_embeddings"], scaled=architecture.scaled_rotary)
    return config


def _embedding(metadata: Metadata) -> tuple[int, ...]:
    embedding = metadata.tensors.get("token_embd.weight")
    if embedding is None or len(embedding.shape) != 2:
        raise SourceError(f"{metadata.file} lacks token_embd.weight; it is not a whole model")
    return embedding.shape


def _llama(keys: Keys, config: Config) -> Config:
    _plain_scale(keys, config)
    window = keys.count(WINDOW, 0)
    if 0 < window < config["max_position_embeddings"]:
        return {"model_type": "mistral", "sliding_window": window}
    tensors = keys.metadata.tensors
    return {
        "attention_bias": any(f"blk.0.attn_{part}.bias" in tensors for part in ("q", "k", "v", "output")),
        "mlp_bias": any(f"blk.0.ffn_{part}.bias" in tensors for part in ("gate", "up", "down")),
    }


def _no_window(keys: Keys, config: Config) -> Config:
    _plain_scale(keys, config)
    if 0 < keys.count(WINDOW, 0) < config["max_position_embeddings"]:
        raise keys.refuse(WINDOW, "of this architecture only models without a window are")
    keys.ignore("attention.sliding_window_pattern")
    return {"use_sliding_window": False}


def _gemma(keys: Keys, config: Config) -> Config:
    _plain_scale(keys, config)
    return {}


def _gemma2(keys: Keys, config: Config) -> Config:
    base = keys.real("rope.freq_base_swa", config["rope_theta"])
    if base != config["rope_theta"]:
        raise keys.refuse("rope.freq_base_swa", "Gemma 2 has one for all layers")
    return {
        **_windows(keys, config, window=4096, every=2),
        "query_pre_attn_scalar": _scalar(keys, config),
        "attn_logit_softcapping": keys.real("attn_logit_softcapping", 50.0) or None,
        "final_logit_softcapping": keys.real("final_logit_softcapping", 30.0) or None,
    }


def _gemma3(keys: Keys, config: Config) -> Config:
    return {
        **_windows(keys, config, window=0, every=6),
        "query_pre_attn_scalar": _scalar(keys, config),
        "rope_local_base_freq": keys.real("rope.freq_base_swa", 10000.0),
        "final_logit_softcapping": keys.real("final_logit_softcapping", 0.0) or None,
    }


def _windows(keys: Keys, config: Config, window: int, every: int) -> Config:
    size = keys.count(WINDOW, window)
    pattern = keys.pattern("attention.sliding_window_pattern", every, config["num_hidden_layers"])
    kinds = ["sliding_attention" if size > 0 and windowed else "full_attention" for windowed in pattern]
    return {"layer_types": kinds} | ({"sliding_window": size} if size > 0 else {})


def _scalar(keys: Keys, config: Config) -> float:
    """Gemma scales attention by the inverse root of this: an integer in every checkpoint, and newer readers insist."""
    if scale := keys.real(SCALE, 0.0):
        exact = 1 / scale**2  # of a number in fp32
        return round(exact) if math.isclose(exact, round(exact), rel_tol=1e-6) else exact
    if config["num_hidden_layers"] == GEMMA_27B_LAYERS[keys.metadata.architecture]:
        return int(config["hidden_size"] // config["num_attention_heads"])
    return int(config["head_dim"])


def _phi3(keys: Keys, config: Config) -> Config:
    _plain_scale(keys, config)
    turned = keys.size("rope.dimension_count", config["head_dim"])
    return {
        "sliding_window": keys.count(WINDOW, 0) or None,
        "partial_rotary_factor": turned / config["head_dim"],
        "resid_pdrop": 0.0,
        "embd_pdrop": 0.0,
    }


def _olmo(keys: Keys, config: Config) -> Config:
    _plain_scale(keys, config)
    epsilon = keys.real("attention.layer_norm_epsilon")
    if not math.isclose(epsilon, OLMO_EPSILON, rel_tol=1e-3):
        raise keys.refuse("attention.layer_norm_epsilon", f"OLMo has {OLMO_EPSILON}")
    keys.ignore("attention.layer_norm_rms_epsilon")
    return {"clip_qkv": keys.real("attention.clamp_kqv", 0.0) or None}


def _plain_scale(keys: Keys, config: Config) -> None:
    usual = config["head_dim"] ** -0.5
    if not math.isclose(keys.real(SCALE, 0.0) or usual, usual, rel_tol=1e-5):
        raise keys.refuse(SCALE, f"this architecture has {usual:.6g}")


ARCHITECTURES: Mapping[str, Architecture] = {
    "gemma": Architecture("gemma", _gemma),
    "gemma2": Architecture("gemma2", _gemma2),
    "gemma3": Architecture("gemma3_text", _gemma3),
    "llama": Architecture("llama", _llama),
    "mistral": Architecture("llama", _llama),
    "olmo": Architecture("olmo", _olmo, epsilon="layer_norm_epsilon"),
    "olmo2": Architecture("olmo2", _no_window),
    "phi3": Architecture("phi3", _phi3, partial_rotary=True, scaled_rotary=False),
    "qwen2": Architecture("qwen2", _no_window),
    "qwen3": Architecture("qwen3", _no_window),
}
"""llama.cpp writes `llama` for Mistral too; a file that says `mistral` has the same keys and tensors."""
