"""What is done to a graph, by what it is to run on and what its weights are kept in."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from nudge_onnx.choices import Precision, Target

__all__ = ["INT8_CACHE", "PASSES", "PRECISION_OF_TARGET", "PROMPT_ATTENTION", "RECIPES", "SMOOTH_QUANT", "Recipe"]

SMOOTH_QUANT = "smooth-quant"
INT8_CACHE = "int8-cache"
PROMPT_ATTENTION = "prompt-attention"


@dataclass(frozen=True)
class Recipe:
    """The steps behind Optimum's conversion, in the order of the fields; `docs/graphs.md` describes them."""

    precision: Precision
    """What the weights are brought to, between `rewriting` and `finishing`."""
    rewriting: tuple[str, ...]
    """Passes on the graph as it is converted. With `group-query-attention` the cache is in place, without it grows."""
    smoothed: bool = False
    """Whether channels that products read are evened out by their sizes on the calibration text (`smooth-quant`)."""
    calibrated: bool = False
    """Whether weights are rounded by what they are multiplied with on the calibration text (GPTQ)."""
    finishing: tuple[str, ...] = ()
    """Passes on weights in their final precision; `int8-cache` has the ranges of keys and values measured first."""
    separate_views: bool = False
    """Whether head and embedding get a tensor each over the same bytes. On a GPU that would be a second copy."""

    @property
    def passes(self) -> tuple[str, ...]:
        """Names of all passes, in the order they run."""
        return (*self.rewriting, *((SMOOTH_QUANT,) if self.smoothed else ()), *self.finishing)

    def without(self, skipped: Collection[str]) -> Recipe:
        """The recipe with some passes left out. Raises `ValueError` for a name that no recipe has."""
        if unknown := set(skipped) - set(PASSES):
            raise ValueError(f"unknown pass {', '.join(sorted(unknown))}; there are {', '.join(PASSES)}")
        return replace(
            self,
            rewriting=tuple(name for name in self.rewriting if name not in skipped),
            smoothed=self.smoothed and SMOOTH_QUANT not in skipped,
            finishing=tuple(name for name in self.finishing if name not in skipped),
        )


_STANDARD = ("fold-tied-head", "last-rows")
_BEFORE_ATTENTION = (*_STANDARD, "fuse-norms", "fuse-gelu", "separate-heads")
_AFTER_ATTENTION = ("fuse-qkv", "fuse-gate-up", "shared-embedding", "fuse-skip-norms")
_FUSED = (*_BEFORE_ATTENTION, "group-query-attention", *_AFTER_ATTENTION)
_FUSED_GROWING = (*_BEFORE_ATTENTION, *_AFTER_ATTENTION)  # on CUDA the attention in place has kernels for halves only
_EXPERTS = (*_FUSED, "separate-experts")  # worth their nodes only where weights get fewer bits

_FLOATS = ("uncertainty-head",)
_HALVES = ("half-attention", "uncertainty-head")
_CODES = (INT8_CACHE, PROMPT_ATTENTION, "window-attention", "join-branches", "uncertainty-head")

# fmt: off
RECIPES: Mapping[tuple[Target, Precision], Recipe] = {
    #                                 weights     rewriting        smoothed calibrated finishing separate views
    ("cpu",      "fp32"):     Recipe("fp32",     _FUSED,           False,   False,     _FLOATS,  True),
    ("cpu",      "fp16"):     Recipe("fp16",     _FUSED,           False,   False,     _FLOATS,  False),
    ("cpu",      "int8"):     Recipe("int8",     _EXPERTS,         True,    False,     _CODES,   True),
    ("cpu",      "int4"):     Recipe("int4",     _EXPERTS,         False,   True,      _CODES,   True),
    ("cpu",      "int4-all"): Recipe("int4-all", _EXPERTS,         False,   True,      _CODES,   True),
    ("cuda",     "fp32"):     Recipe("fp32",     _FUSED_GROWING,   False,   False,     _FLOATS,  False),
    ("cuda",     "fp16"):     Recipe("fp16",     _FUSED,           False,   False,     _FLOATS,  False),
    ("cuda",     "int8"):     Recipe("int8",     _EXPERTS,         True,    False,     _HALVES,  False),
    ("cuda",     "int4"):     Recipe("int4",     _EXPERTS,         False,   True,      _HALVES,  False),
    ("cuda",     "int4-all"): Recipe("int4-all", _EXPERTS,         False,   True,      _HALVES,  False),
    # Standard operators only: TensorRT has no others.
    ("tensorrt", "fp32"):     Recipe("fp32",     _STANDARD,        False,   False,     _FLOATS,  False),
    ("tensorrt", "fp16"):     Recipe("fp16",     _STANDARD,        False,   False,     _FLOATS,  False),
    ("tensorrt", "int8"):     Recipe("int8",     _STANDARD,        True,    False,     _FLOATS,  False),
    ("tensorrt", "int4"):     Recipe("int4",     _STANDARD,        False,   True,      _FLOATS,  False),
    ("tensorrt", "int4-all"): Recipe("int4-all", _STANDARD,        False,   True,      _FLOATS,  False),
}
# fmt: on
"""The recipe of each target and precision."""

PRECISION_OF_TARGET: Mapping[Target, Precision] = {"cpu": "int8", "cuda": "fp16", "tensorrt": "fp16"}
"""What a model is brought to where nobody says."""

PASSES: tuple[str, ...] = (*_EXPERTS, SMOOTH_QUANT, *_CODES[:-1], *_HALVES)
"""Names of all passes, in the order they run."""
