"""The weights of a checkpoint folder, safetensors or PyTorch files, one or several, without reading them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nudge_onnx.errors import SourceError

from ..support.faults import one_line
from .lazy_tensor import Floats, LazyTensor

__all__ = ["check_finite", "check_readable", "open_weights", "weight_count", "weight_names"]


def weight_names(checkpoint: Path) -> list[str]:
    """Names of the weights in the first file of a checkpoint."""
    return [name for path in _files(checkpoint)[:1] for name in _tensors(path)]


def weight_count(checkpoint: Path) -> int:
    """How many numbers the files of a checkpoint hold."""
    return sum(math.prod(shape) for path in _files(checkpoint) for shape, _ in _tensors(path).values())


def _files(checkpoint: Path) -> list[Path]:
    kinds = ("model*.safetensors", "pytorch_model*.bin")
    return next((files for kind in kinds if (files := sorted(checkpoint.glob(kind)))), [])


def open_weights(checkpoint: Path, rename: Callable[[str], str] = str) -> dict[str, LazyTensor]:
    """Every tensor of floats of a checkpoint, by what `rename` makes of its name in the file.

    Reading one raises `SourceError` where it holds numbers that are not finite.
    """
    found: dict[str, LazyTensor] = {}
    for path in _files(checkpoint):
        for name, (shape, part) in _tensors(path).items():
            found[rename(name)] = LazyTensor(shape, _finite(part, name, checkpoint))
    return found


def check_finite(weight: Floats, name: str, checkpoint: Path) -> None:
    """Raise `SourceError`, one line, for a weight with numbers that are not finite."""
    # The sum is not finite if one of its terms is not, and takes no copy; a finite weight may overflow it.
    if not np.isfinite(weight.sum()) and not np.isfinite(weight).all():
        raise SourceError(
            f"{checkpoint}: the weight {name} holds numbers that are not finite; "
            "the training that made it diverged, or the file is damaged"
        )


_Rows = Callable[[int, int], Any]
_Tensors = dict[str, tuple[tuple[int, ...], _Rows]]


def check_readable(path: Path) -> None:
    """Raise `SourceError`, one line, for a file of weights that is damaged or ends too early."""
    _tensors(path)


def _tensors(path: Path) -> _Tensors:
    """Shape of each tensor, and what reads rows of it."""
    try:
        return _safetensors(path) if path.suffix == ".safetensors" else _pytorch(path)
    except Exception as error:  # both libraries raise all kinds
        raise SourceError(f"{path} is corrupt or truncated ({one_line(error)}); download it again") from None


def _safetensors(path: Path) -> _Tensors:
    from safetensors import safe_open

    def rows_of(name: str) -> _Rows:
        def rows(start: int, stop: int) -> Any:
            # Opened for each read: of a file that stays mapped, what was read stays in memory.
            with safe_open(path, framework="pt") as file:
                return file.get_slice(name)[start:stop]

        return rows

    with safe_open(path, framework="pt") as file:
        return {name: (tuple(file.get_slice(name).get_shape()), rows_of(name)) for name in file.keys()}  # noqa: SIM118


def _pytorch(path: Path) -> _Tensors:
    import torch

    tensors: Mapping[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    return {name: (tuple(tensor.shape), partial(_rows, tensor)) for name, tensor in tensors.items()}


def _rows(tensor: Any, start: int, stop: int) -> Any:
    return tensor[start:stop]


def _finite(part: _Rows, name: str, checkpoint: Path) -> Callable[[int, int], Floats]:
    def read(start: int, stop: int) -> Floats:
        rows: Floats = part(start, stop).float().numpy()
        check_finite(rows, name, checkpoint)
        return rows

    return read
