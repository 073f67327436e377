"""The parameters of a model by its configuration, without making them."""

from __future__ import annotations

from typing import Any

__all__ = ["parameter_shapes"]


def parameter_shapes(config: Any) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the parameters of transformers' model, tied ones once.

    Raises what transformers and PyTorch raise for sizes that make no model: `ValueError`, `KeyError`, `RuntimeError`
    or `ArithmeticError`.
    """
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.modeling_utils import no_init_weights

    with no_init_weights(), torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.tie_weights()  # no_init_weights leaves that out too
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
