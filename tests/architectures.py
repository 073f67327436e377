"""Every architecture that the tests export: its tiny configuration, and the table that docs/architectures.md shows.

`python tests/architectures.py` prints the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["ARCHITECTURES", "Architecture", "table", "tested"]

Tests = Literal["all", "experts", "heads", "short"]

SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    # Wide enough that two layers of random weights really depend on what they read.
    "initializer_range": 0.125,
}
OLD_SIZES: dict[str, Any] = {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 512, "initializer_range": 0.125}
WINDOW: dict[str, Any] = {"sliding_window": 16}
"""Shorter than the tests' prompts."""
ALTERNATING = WINDOW | {"layer_types": ["sliding_attention", "full_attention"]}
GEMMA = ALTERNATING | {"head_dim": 16, "query_pre_attn_scalar": 24}
WIDE: dict[str, Any] = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32}
EXPERTS: dict[str, Any] = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}


@dataclass(frozen=True)
class Architecture:
    """What transformers calls it, its sizes, and how far it is tested.

    `tests` is "all", or in fp32 and int8 alone: mixtures of "experts", what lays out or turns its "heads" in another
    way, and the rest, "short". The `cache` of its graph on a CPU is "in place" where attention is rewritten.
    """

    models: str
    kind: str
    tests: Tests
    sizes: Mapping[str, Any] = field(default_factory=lambda: SIZES)
    cache: Literal["in place", "growing"] = "in place"
    model_class: str = ""


ARCHITECTURES: dict[str, Architecture] = {
    "llama": Architecture("Llama 1 to 3, Vicuna, SmolLM2", "Llama", "all"),
    "mistral": Architecture("Mistral", "Mistral", "all", SIZES | WINDOW | {"head_dim": 16}),
    "gemma2": Architecture("Gemma 2", "Gemma2", "all", SIZES | GEMMA),
    "gemma3": Architecture(
        "Gemma 3, of those that see the text model",
        "Gemma3Text",
        "all",
        SIZES | GEMMA | {"rope_local_base_freq": 1e4},
        model_class="Gemma3ForCausalLM",
    ),
    "olmo": Architecture("OLMo", "Olmo", "all"),
    "olmo2": Architecture("OLMo 2", "Olmo2", "all"),
    "qwen2": Architecture("Qwen 1.5 to 2.5", "Qwen2", "all"),
    "qwen3": Architecture("Qwen 3", "Qwen3", "all", SIZES | {"head_dim": 32}),
    "phi3": Architecture("Phi-3 to Phi-4", "Phi3", "all"),
    "gpt2": Architecture("GPT-2", "GPT2", "all", OLD_SIZES, model_class="GPT2LMHeadModel"),
    "qwen3_moe": Architecture("Qwen 3 MoE", "Qwen3Moe", "experts", SIZES | EXPERTS | {"head_dim": 32}),
    "gpt_oss": Architecture(
        "gpt-oss, MXFP4 too",
        "GptOss",
        "experts",
        SIZES
        | WINDOW
        | {"head_dim": 16, "num_local_experts": 4, "num_experts_per_tok": 2}
        | {"intermediate_size": 64, "rope_scaling": None},
        cache="growing",
    ),
    "mixtral": Architecture(
        "Mixtral", "Mixtral", "experts", SIZES | {"num_local_experts": 4, "num_experts_per_tok": 2}
    ),
    "olmoe": Architecture("OLMoE", "Olmoe", "experts", SIZES | {"num_experts": 4, "num_experts_per_tok": 2}),
    "qwen2_moe": Architecture(
        "Qwen 1.5 and 2 MoE", "Qwen2Moe", "experts", SIZES | EXPERTS | {"shared_expert_intermediate_size": 32}
    ),
    "gpt_neox": Architecture(
        "GPT-NeoX, Pythia", "GPTNeoX", "heads", SIZES | {"num_attention_heads": 2, "rotary_pct": 0.5}
    ),
    "cohere": Architecture("Command R", "Cohere", "heads"),
    "glm": Architecture("GLM 4 of 2024", "Glm", "heads", SIZES | WIDE),
    "helium": Architecture("Helium", "Helium", "heads", SIZES | {"head_dim": 16}),
    "cohere2": Architecture("Command R7B, Command A", "Cohere2", "short", SIZES | ALTERNATING),
    "glm4": Architecture("GLM 4 of 2025", "Glm4", "short", SIZES | WIDE),
    "olmo3": Architecture("OLMo 3", "Olmo3", "short", SIZES | ALTERNATING),
    "exaone4": Architecture("EXAONE 4", "Exaone4", "short", SIZES | ALTERNATING),
    "starcoder2": Architecture("StarCoder 2", "Starcoder2", "short", SIZES | WINDOW),
    "phi": Architecture("Phi-1 to Phi-2", "Phi", "short", cache="growing"),
    "gemma": Architecture("Gemma", "Gemma", "short", SIZES | {"head_dim": 16}),
    "vaultgemma": Architecture("VaultGemma", "VaultGemma", "short", SIZES | GEMMA),
    "ministral": Architecture("Ministral", "Ministral", "short", SIZES | ALTERNATING | {"head_dim": 16}),
    "granite": Architecture("Granite", "Granite", "short"),
    "smollm3": Architecture("SmolLM3", "SmolLM3", "short"),
    "seed_oss": Architecture("Seed-OSS", "SeedOss", "short", SIZES | {"head_dim": 16}),
    "arcee": Architecture("Arcee", "Arcee", "short"),
    "opt": Architecture(
        "OPT",
        "OPT",
        "short",
        {"hidden_size": 64, "word_embed_proj_dim": 64, "ffn_dim": 96, "num_hidden_layers": 2}
        | {"num_attention_heads": 4, "max_position_embeddings": 512, "init_std": 0.125},
    ),
    "ernie4_5": Architecture("ERNIE 4.5", "Ernie4_5", "short", SIZES | {"head_dim": 16}, cache="growing"),
    "hunyuan_v1_dense": Architecture("Hunyuan", "HunYuanDenseV1", "short", SIZES | {"head_dim": 16}, cache="growing"),
    "nemotron": Architecture("Nemotron, Minitron", "Nemotron", "short", cache="growing"),
    "stablelm": Architecture("StableLM", "StableLm", "short", cache="growing"),
    "gptj": Architecture("GPT-J", "GPTJ", "short", OLD_SIZES | {"rotary_dim": 8}, cache="growing"),
    "codegen": Architecture(
        "CodeGen", "CodeGen", "short", OLD_SIZES | {"rotary_dim": 8, "n_ctx": 512}, cache="growing"
    ),
    "gpt_neo": Architecture(
        "GPT-Neo",
        "GPTNeo",
        "short",
        {"hidden_size": 64, "intermediate_size": 96, "num_layers": 2, "num_heads": 4, "initializer_range": 0.125}
        | {"attention_types": [[["global", "local"], 1]], "max_position_embeddings": 512, "window_size": 16},
        cache="growing",
    ),
    "gpt_bigcode": Architecture("StarCoder, SantaCoder", "GPTBigCode", "short", OLD_SIZES, cache="growing"),
    "bloom": Architecture(
        "BLOOM",
        "Bloom",
        "short",
        {"hidden_size": 64, "n_layer": 2, "n_head": 4, "initializer_range": 0.125},
        cache="growing",
    ),
    "falcon": Architecture(
        "Falcon 7b",
        "Falcon",
        "short",
        {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 512}
        | {"initializer_range": 0.125, "multi_query": True, "new_decoder_architecture": False, "alibi": False},
        cache="growing",
    ),
    "mpt": Architecture(
        "MPT",
        "Mpt",
        "short",
        {"d_model": 64, "n_layers": 2, "n_heads": 4, "max_seq_len": 512, "initializer_range": 0.125},
        cache="growing",
    ),
}

_TESTED: dict[Tests, str] = {
    "all": "every precision, with and without each pass",
    "experts": "fp32, int8, int4; all products with experts quantised",
    "heads": "fp32 and int8, with and without each pass",
    "short": "fp32 and int8",
}


def tested(*how: Tests) -> list[str]:
    """Names of the architectures whose tests are of these kinds."""
    return [name for name, architecture in ARCHITECTURES.items() if architecture.tests in how]


def table() -> str:
    """The table in docs/architectures.md."""
    rows = ["| `model_type` | models | tested in | cache on a CPU |", "|---|---|---|---|"]
    rows += [
        f"| `{name}` | {known.models} | {_TESTED[known.tests]} | {known.cache} |"
        for name, known in ARCHITECTURES.items()
    ]
    return "\n".join(rows)


if __name__ == "__main__":
    print(table())
