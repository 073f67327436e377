"""Decoders that transformers knows and Optimum has no configuration for: importing this registers ours with Optimum.

They are plain decoders with a cache of keys and values, so a configuration says little more than where the cache's
sizes stand. How Optimum is extended: https://huggingface.co/docs/optimum-onnx/onnx/usage_guides/contribute
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from optimum.exporters.onnx.config import TextDecoderWithPositionIdsOnnxConfig
from optimum.exporters.onnx.model_configs import COMMON_TEXT_GENERATION_TASKS
from optimum.exporters.onnx.model_patcher import ModelPatcher
from optimum.exporters.tasks import TasksManager
from optimum.utils import DummyTextInputGenerator, MistralDummyPastKeyValuesGenerator, NormalizedTextConfigWithGQA
from transformers.models.cohere2.modeling_cohere2 import Cohere2RotaryEmbedding
from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock
from transformers.models.olmoe.modeling_olmoe import OlmoeSparseMoeBlock
from transformers.models.qwen2_moe.modeling_qwen2_moe import Qwen2MoeSparseMoeBlock

__all__: list[str] = []


class _Decoder(TextDecoderWithPositionIdsOnnxConfig):  # type: ignore[misc]
    """Keys and values of as many heads, and as wide, as the configuration says."""

    NORMALIZED_CONFIG_CLASS = NormalizedTextConfigWithGQA
    DUMMY_INPUT_GENERATOR_CLASSES = (DummyTextInputGenerator, MistralDummyPastKeyValuesGenerator)
    DUMMY_PKV_GENERATOR_CLASS = MistralDummyPastKeyValuesGenerator


class _Instead(ModelPatcher):  # type: ignore[misc]
    """During a trace, modules of these types run another function."""

    functions: ClassVar[Mapping[Any, Callable[..., Any]]]

    def __enter__(self) -> None:
        super().__enter__()
        self._before = {module: module.forward for module in self.functions}
        for module, function in self.functions.items():
            module.forward = function

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        for module, function in self._before.items():
            module.forward = function


def _mix_experts(block: Any, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A block of experts on `[batch, tokens, size]`: each expert reads the tokens that chose it.

    The block's own code leaves out the experts that nobody chose, and a trace would never have them.
    """
    rows = hidden.reshape(-1, hidden.shape[-1])
    logits = block.gate(rows)
    weights, chosen = torch.topk(torch.softmax(logits, dim=-1, dtype=torch.float32), block.top_k, dim=-1)
    if getattr(block, "norm_topk_prob", True):  # Mixtral has no such option: it always does
        weights = weights / weights.sum(dim=-1, keepdim=True)
    weights = weights.to(rows.dtype)
    mixed = torch.zeros_like(rows)
    for number, expert in enumerate(block.experts):
        token, rank = torch.where(chosen == number)
        mixed = mixed.index_add(0, token, expert(rows[token]) * weights[token, rank, None])
    if hasattr(block, "shared_expert"):
        mixed = mixed + torch.sigmoid(block.shared_expert_gate(rows)) * block.shared_expert(rows)
    return mixed.reshape(hidden.shape), logits


def _turn_pairs(rotary: Any, hidden: torch.Tensor, position_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosine and sine `[batch, tokens, head]` of neighbours, each pair alike; `repeat_interleave` loses its rank."""
    angles = position_ids[:, :, None].float() * rotary.inv_freq[None, None, :].float()
    angles = torch.stack((angles, angles), dim=-1).flatten(-2)
    cos, sin = angles.cos() * rotary.attention_scaling, angles.sin() * rotary.attention_scaling
    return cos.to(hidden.dtype), sin.to(hidden.dtype)


class _Experts(_Instead):
    functions: ClassVar = dict.fromkeys(
        (MixtralSparseMoeBlock, OlmoeSparseMoeBlock, Qwen2MoeSparseMoeBlock), _mix_experts
    )


class _Pairs(_Instead):
    functions: ClassVar = {Cohere2RotaryEmbedding: _turn_pairs}


class _Mixture(_Decoder):
    _MODEL_PATCHER = _Experts


class _Cohere2(_Decoder):
    _MODEL_PATCHER = _Pairs


_CONFIGS: dict[str, type[_Decoder]] = {
    "cohere2": _Cohere2,
    "ernie4_5": _Decoder,
    "exaone4": _Decoder,
    "glm4": _Decoder,
    "hunyuan_v1_dense": _Decoder,
    "ministral": _Decoder,
    "mixtral": _Mixture,
    "olmo3": _Decoder,
    "olmoe": _Mixture,
    "qwen2_moe": _Mixture,
    "seed_oss": _Decoder,
    "starcoder2": _Decoder,
    "vaultgemma": _Decoder,
    # Optimum's own gives every head of Phi keys of its own.
    "phi": _Decoder,
}
_register = TasksManager.create_register("onnx", overwrite_existing=True)
for _name, _config in _CONFIGS.items():
    _register(_name, *COMMON_TEXT_GENERATION_TASKS)(_config)
