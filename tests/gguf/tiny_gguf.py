"""Hand-made GGUF files: a byte-level Llama of two layers with random weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType, GGUFValueType, GGUFWriter, TokenType, dequantize, quantize
from numpy.typing import NDArray
from tokenizers.pre_tokenizers import ByteLevel

__all__ = ["BYTES", "MERGES", "TOKENS", "add_value", "byte_level_values", "write_llama"]

HIDDEN, INNER, LAYERS, HEADS, KV_HEADS = 64, 96, 2, 4, 2
HEAD = HIDDEN // HEADS
CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
BYTES = sorted(ByteLevel.alphabet())
MERGES = ["Ġ t", "h e", "Ġt he", "1 2", "i n", "in g", "Ċ Ċ"]
TOKENS = [*CONTROL, *BYTES, *(merge.replace(" ", "") for merge in MERGES)]

Array = NDArray[np.float32]


def byte_level_values(**changes: Any) -> dict[str, Any]:
    """Metadata of the tiny model; a change names a key after its last dot, or in full with `__` for the dots."""
    values: dict[str, Any] = {
        "general.architecture": "llama",
        "general.name": "Tiny",
        "general.license": "apache-2.0",
        "general.file_type": 7,
        "general.base_model.count": 1,
        "general.base_model.0.name": "Tiny base",
        "llama.context_length": 128,
        "llama.embedding_length": HIDDEN,
        "llama.block_count": LAYERS,
        "llama.feed_forward_length": INNER,
        "llama.attention.head_count": HEADS,
        "llama.attention.head_count_kv": KV_HEADS,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.dimension_count": HEAD,
        "llama.rope.freq_base": 10000.0,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": TOKENS,
        "tokenizer.ggml.token_type": [TokenType.CONTROL] * len(CONTROL)
        + [TokenType.NORMAL] * (len(TOKENS) - len(CONTROL)),
        "tokenizer.ggml.merges": MERGES,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.eot_token_id": 0,
        "tokenizer.chat_template": "{{ messages[0]['content'] }}",
    }
    for name, value in changes.items():
        full = name.replace("__", ".")
        key = next((key for key in values if key.rpartition(".")[2] == full), full)
        if value is None:
            values.pop(key, None)
        else:
            values[key] = value
    return values


def write_llama(
    path: Path,
    values: dict[str, Any] | None = None,
    kind: GGMLQuantizationType = GGMLQuantizationType.F32,
    tied: bool = False,
    without: str = "",
    extra: str = "",
    extra_weights: Sequence[float] = (1.0,) * (HEAD // 2),
    more: Mapping[str, NDArray[Any]] | None = None,
    spoil: bool = False,
) -> dict[str, Array]:
    """Write the file; returns the weights under their transformers names, as they are after the rounding of `kind`.

    `without` leaves a tensor out, `extra` adds one with these weights, `more` others, `spoil` makes a weight NaN.
    """
    draw = np.random.default_rng(0)
    weights: dict[str, Array] = {}
    writer = GGUFWriter(path, "llama")
    for key, value in (byte_level_values() if values is None else values).items():
        add_value(writer, key, value)
    for ours, theirs, shape in _tensors(tied):
        tensor = draw.standard_normal(shape, dtype=np.float32)
        if spoil and ours == "output_norm.weight":
            tensor[0] = np.nan
        matrix = len(shape) == 2 and kind != GGMLQuantizationType.F32
        stored = quantize(tensor, kind) if matrix else tensor
        if ours != without:
            writer.add_tensor(ours, stored, raw_dtype=kind if matrix else None)
        rounded = dequantize(stored, kind) if matrix else tensor
        heads = {"attn_q": HEADS, "attn_k": KV_HEADS}.get(ours.split(".")[-2])
        weights[theirs] = _as_transformers(rounded, heads) if heads else rounded
    if extra:
        writer.add_tensor(extra, np.array(extra_weights, dtype=np.float32))
    for name, weights_of in (more or {}).items():
        writer.add_tensor(name, weights_of)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return weights


def _tensors(tied: bool) -> list[tuple[str, str, tuple[int, ...]]]:
    """`(name in GGUF, name in transformers, shape)` of every tensor."""
    square, wide, narrow = (HIDDEN, HIDDEN), (INNER, HIDDEN), (KV_HEADS * HEAD, HIDDEN)
    table: list[tuple[str, str, tuple[int, ...]]] = [
        ("token_embd.weight", "model.embed_tokens.weight", (len(TOKENS), HIDDEN)),
        ("output_norm.weight", "model.norm.weight", (HIDDEN,)),
    ]
    if not tied:
        table.append(("output.weight", "lm_head.weight", (len(TOKENS), HIDDEN)))
    parts = [
        ("attn_norm", "input_layernorm", (HIDDEN,)),
        ("attn_q", "self_attn.q_proj", square),
        ("attn_k", "self_attn.k_proj", narrow),
        ("attn_v", "self_attn.v_proj", narrow),
        ("attn_output", "self_attn.o_proj", square),
        ("ffn_norm", "post_attention_layernorm", (HIDDEN,)),
        ("ffn_gate", "mlp.gate_proj", wide),
        ("ffn_up", "mlp.up_proj", wide),
        ("ffn_down", "mlp.down_proj", (HIDDEN, INNER)),
    ]
    for layer in range(LAYERS):
        table += [(f"blk.{layer}.{a}.weight", f"model.layers.{layer}.{b}.weight", shape) for a, b, shape in parts]
    return table


def _as_transformers(weight: Array, heads: int) -> Array:
    # Row 2i + h of a head in a GGUF file is row i + h * half in transformers: two ways to pair what rotary turns.
    rows = [weight[head : head + HEAD] for head in range(0, heads * HEAD, HEAD)]
    return np.concatenate([part for head in rows for part in (head[0::2], head[1::2])])


def add_value(writer: GGUFWriter, key: str, value: Any) -> None:
    """Add a key with the type that its value has in Python; lists of numbers are of int32."""
    if key == "general.architecture":
        writer.kv_data[0].pop(key, None)
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        kind = GGUFValueType.INT32 if isinstance(value[0], int) else None
        writer.add_key_value(key, value, GGUFValueType.ARRAY, sub_type=kind)
