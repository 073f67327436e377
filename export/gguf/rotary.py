"""Rotary embeddings: their base, and how they are stretched for longer contexts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nudge_onnx.errors import SourceError

from .keys import Keys
from .reader import Tensor

__all__ = ["llama3_factors", "rotary_of"]

FACTORS = "rope_freqs.weight"
LONG, SHORT = "rope_factors_long.weight", "rope_factors_short.weight"
BASE_KEY, BASE = "rope.freq_base", 10000.0
TYPE, FACTOR, OLD_FACTOR = "rope.scaling.type", "rope.scaling.factor", "rope.scale_linear"
ORIGINAL, ATTENTION = "rope.scaling.original_context_length", "rope.scaling.attn_factor"
YARN = ("yarn_log_multiplier", "yarn_beta_fast", "yarn_beta_slow")
"""What says how YaRN is done, in a file of another type."""
TOLERANCE = 1e-3
LLAMA_3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
"""Of every published model; a file keeps only what came of it."""


def rotary_of(keys: Keys, turned: int, context: int, *, scaled: bool) -> dict[str, Any]:
    """`rope_theta` and `rope_scaling`, and for Phi-3 the original context, of a model that turns `turned` dimensions.

    `scaled` says whether the architecture knows linear scaling and Llama 3's. Raises `SourceError` for a scaling that
    is not understood.
    """
    base = keys.real(BASE_KEY, BASE)
    if base == 0:
        raise keys.refuse(BASE_KEY, "it must be above 0")
    kind = keys.text(TYPE, "linear")
    factor = keys.real(FACTOR, 0.0) or keys.real(OLD_FACTOR, 0.0) or 1.0
    keys.ignore(OLD_FACTOR)
    original = keys.size(ORIGINAL, context)
    for key in YARN:
        keys.ignore(f"rope.scaling.{key}")
    tensors = keys.metadata.tensors
    config: dict[str, Any] = {"rope_theta": base, "rope_scaling": None}
    if kind not in ("none", "linear", "longrope"):
        raise keys.refuse(TYPE, "none, linear and longrope are")
    if kind == "none":
        factor = 1.0
    if factor != 1.0 and (kind == "longrope" or not scaled):
        raise keys.refuse(FACTOR if keys.has(FACTOR) else OLD_FACTOR, "longrope has lists of factors instead")
    if LONG in tensors or SHORT in tensors or kind == "longrope":
        return config | _two_lists(keys, context, original, supported=not scaled)
    if FACTORS in tensors:
        if factor != 1.0 or not scaled:
            raise SourceError(f"{keys.metadata.file}: {FACTORS} is not supported here; use the original checkpoint")
        config["rope_scaling"] = _llama3(keys, tensors[FACTORS], base, turned, original)
    elif factor != 1.0:
        config["rope_scaling"] = {"rope_type": "linear", "factor": factor}
    return config


def _two_lists(keys: Keys, context: int, original: int, *, supported: bool) -> dict[str, Any]:
    """Phi-3's way: a list of factors for texts within the original context, another for longer ones."""
    tensors, file = keys.metadata.tensors, keys.metadata.file
    if not supported:
        raise SourceError(f"{file}: longrope is supported in phi3 only; use the original checkpoint")
    if LONG not in tensors or SHORT not in tensors:
        missing = LONG if LONG not in tensors else SHORT
        raise SourceError(f"{file} lacks {missing}, which its scaled rotary embedding needs; download it again")
    if original == 1:
        raise keys.refuse(ORIGINAL, "longrope needs more than 1")
    scale = context / original
    attention = math.sqrt(1 + math.log(scale) / math.log(original)) if scale > 1 else 1.0
    if not math.isclose(keys.real(ATTENTION, attention), attention, rel_tol=TOLERANCE):
        raise keys.refuse(ATTENTION, f"longrope has {attention:.6g}")
    lists = {"short_factor": tensors[SHORT].read().tolist(), "long_factor": tensors[LONG].read().tolist()}
    return {"rope_scaling": {"type": "longrope", **lists}, "original_max_position_embeddings": original}


def _llama3(keys: Keys, tensor: Tensor, base: float, turned: int, original: int) -> dict[str, Any] | None:
    """Llama 3's way, found again from the factors that came of it; `None` where they change nothing."""
    factors = tensor.read().astype(np.float64)
    if factors.shape == (turned // 2,) and bool(np.isfinite(factors).all()) and factors.min() > 0:
        if bool((factors == 1).all()):
            return None
        scaling = {"factor": float(factors.max()), **LLAMA_3}
        for guess in (scaling, _fitted(factors, base, turned, original)):
            if guess and np.allclose(llama3_factors(base, turned, **guess), factors, rtol=TOLERANCE, atol=0):
                return {"rope_type": "llama3", **guess}
    raise SourceError(
        f"{keys.metadata.file}: the factors of {FACTORS} do not follow Llama 3's rule; use the original checkpoint"
    )


def llama3_factors(
    base: float,
    turned: int,
    factor: float,
    low_freq_factor: float,
    high_freq_factor: float,
    original_max_position_embeddings: int,
) -> NDArray[np.float64]:
    """What divides each frequency, `[turned / 2]`: 1 for short waves, `factor` for long ones, a slope between."""
    turns = original_max_position_embeddings / _wavelengths(base, turned)
    slope = np.clip((turns - low_freq_factor) / (high_freq_factor - low_freq_factor), 0, 1)
    blended: NDArray[np.float64] = 1 / ((1 - slope) / factor + slope)
    return blended


def _fitted(factors: NDArray[np.float64], base: float, turned: int, original: int) -> dict[str, Any] | None:
    """The slope's two ends, by a line through the frequencies that lie on it."""
    factor = float(factors.max())
    share = (1 / factors - 1 / factor) / (1 - 1 / factor)
    between = (share > TOLERANCE) & (share < 1 - TOLERANCE)
    turns = original / _wavelengths(base, turned)
    if factor <= 1 or between.sum() < 2:
        return None
    rise, start = np.polyfit(turns[between], share[between], 1)
    low = -start / rise
    ends = {"low_freq_factor": float(low), "high_freq_factor": float(low + 1 / rise)}
    return {"factor": factor, **ends, "original_max_position_embeddings": original}


def _wavelengths(base: float, turned: int) -> NDArray[np.float64]:
    wavelengths: NDArray[np.float64] = 2 * np.pi * np.power(base, np.arange(0, turned, 2) / turned)
    return wavelengths
