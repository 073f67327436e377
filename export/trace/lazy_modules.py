"""Lets a model run whose weights are read as each module needs them, and are let go of behind it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..source.skeleton import is_large
from ..weights import LazyTensor

__all__ = ["attach"]


def attach(model: Any, weights: Mapping[str, LazyTensor]) -> None:
    """Give the modules of a `skeleton` their large parameters.

    A plain linear layer computes with a few rows of its matrix at a time, an embedding gets the rows that it looks up,
    and any other module all of its own for as long as it runs: an embedding of positions may be told something else
    than indices.
    """
    import torch

    tokens = model.get_input_embeddings()
    names = {
        parameter.untyped_storage().data_ptr(): name
        for name, parameter in model.named_parameters(remove_duplicate=False)
        if name in weights
    }
    for module in model.modules():
        own = {
            name: weights[names[parameter.untyped_storage().data_ptr()]]
            for name, parameter in module.named_parameters(recurse=False)
            if is_large(parameter.shape)
        }
        if not own:
            continue
        if isinstance(module, torch.nn.Linear) and type(module).forward is torch.nn.Linear.forward:
            module.forward = _Linear(own["weight"], module.bias)
        elif module is tokens or type(module).forward is torch.nn.Embedding.forward:
            module.register_forward_pre_hook(_Rows(own["weight"]))
            module.register_forward_hook(_Release(module))
        else:
            module.register_forward_pre_hook(_All(own))
            module.register_forward_hook(_Release(module))


class _Linear:
    def __init__(self, weight: LazyTensor, bias: Any) -> None:
        self._weight = weight
        self._bias = bias

    def __call__(self, hidden: Any) -> Any:
        import torch

        rows = (torch.nn.functional.linear(hidden, torch.from_numpy(piece)) for piece in self._weight.pieces())
        product = torch.cat(list(rows), -1)
        return product if self._bias is None else product + self._bias


class _Rows:
    """Before an embedding: a table of what is looked up, and ids that count in it."""

    def __init__(self, table: LazyTensor) -> None:
        self._table = table

    def __call__(self, module: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        import torch

        wanted, places = np.unique(arguments[0].numpy(), return_inverse=True)
        module.weight = torch.nn.Parameter(torch.from_numpy(self._table[wanted]), requires_grad=False)
        module.padding_idx = None  # an id of the whole table; it matters in training only
        return (torch.from_numpy(places.reshape(arguments[0].shape)), *arguments[1:])


class _All:
    """Before a module of any kind."""

    def __init__(self, weights: Mapping[str, LazyTensor]) -> None:
        self._weights = weights

    def __call__(self, module: Any, _arguments: tuple[Any, ...]) -> None:
        import torch

        for name, weight in self._weights.items():
            setattr(module, name, torch.nn.Parameter(torch.from_numpy(np.asarray(weight)), requires_grad=False))


class _Release:
    """Behind a module: its parameters as they were."""

    def __init__(self, module: Any) -> None:
        self._before = dict(module.named_parameters(recurse=False))

    def __call__(self, module: Any, _arguments: Any, _output: Any) -> None:
        for name, parameter in self._before.items():
            setattr(module, name, parameter)
