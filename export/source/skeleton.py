"""A PyTorch model whose large parameters take no memory: its code runs, and its weights come later or never."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..support.quiet import quiet
from ..weights import LazyTensor
from .named_weights import NamedWeights

__all__ = ["fill", "is_large", "skeleton"]

_LARGE = 1 << 12


def is_large(shape: Sequence[int]) -> bool:
    """Whether a parameter is worth leaving out: a matrix that is not tiny.

    Vectors stay: traces compute with the weights of norms.
    """
    return len(shape) > 1 and math.prod(shape) >= _LARGE


def skeleton(found: NamedWeights) -> Any:
    """The model in fp32, in evaluation mode, with one row of NaN in place of each parameter.

    A parameter is that row seen as all of them, with a stride of zero: it takes no memory, has a storage of its own,
    and its strides tell its transpose from itself. What is computed from it is NaN.
    """
    import torch
    from transformers.modeling_utils import no_init_weights

    with quiet(), no_init_weights(), _weightless():
        model = found.kind._from_config(found.config, dtype=torch.float32)  # noqa: SLF001, it has no other name
    model.tie_weights()
    return model.eval()


def fill(model: Any, weights: Mapping[str, LazyTensor], *, large: bool) -> None:
    """Read the parameters and buffers, the large ones too if that is asked for."""
    import torch

    places: dict[str, Any] = {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers())}
    with torch.no_grad():
        for name, weight in weights.items():
            if name in places and (large or not is_large(weight.stored)):
                array = np.ascontiguousarray(np.asarray(weight))
                places[name].data = torch.from_numpy(array).to(places[name].dtype)


@contextlib.contextmanager
def _weightless() -> Iterator[None]:
    import torch

    register = torch.nn.Module.register_parameter

    def weightless(module: Any, name: str, parameter: Any) -> None:
        if parameter is not None:
            row = torch.full(parameter.shape[-1:], math.nan)
            parameter = torch.nn.Parameter(row.expand(parameter.shape), requires_grad=False)
        register(module, name, parameter)

    torch.nn.Module.register_parameter = weightless
    try:
        yield
    finally:
        torch.nn.Module.register_parameter = register
