"""Weights that are read when they are asked for, a few rows at a time, so that a model of any size takes little memory.

Import `LazyTensor`, `join` and `equal`; `open_weights` lists those of a checkpoint folder, and a `DataFile` is where
finished ones go.
"""

from .checkpoint_files import check_finite, check_readable, open_weights, weight_count, weight_names
from .data_file import DataFile
from .lazy_tensor import Floats, LazyTensor, Tensor, equal, join
from .parameter_shapes import parameter_shapes

__all__ = [
    "DataFile",
    "Floats",
    "LazyTensor",
    "Tensor",
    "check_finite",
    "check_readable",
    "equal",
    "join",
    "open_weights",
    "parameter_shapes",
    "weight_count",
    "weight_names",
]
