"""Options that make the TensorRT provider usable for a decoder: shape profiles, precision, and caches on disk.

TensorRT builds an engine, for minutes, for the range of shapes that it is told of; without a range it builds again for
each new length. None of this was run on a GPU here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from nudge_onnx.bundle import ModelRecord

from .graph_io import input_shapes
from .providers import PROVIDERS, Provider, onnxruntime

__all__ = ["shape_profiles", "tensorrt_options", "with_tensorrt_options"]

# A single step has two rows and a text some hundred positions: what the engine is tuned for.
_USUAL_ROWS = 2
_USUAL_PAST = 512
# More logits than a draft ever asks for. A profile up to the context would reserve gigabytes for a large vocabulary.
_MOST_LOGITS = 128


def shape_profiles(record: ModelRecord) -> dict[str, str]:
    """The least, usual and largest shape of every input, as TensorRT's provider options.

    `{"trt_profile_min_shapes": "input_ids:1x1,attention_mask:1x1,...", ...}` with `opt` and `max` alike.
    """
    context = record.context_length
    usual = min(_USUAL_PAST, context - _USUAL_ROWS)
    return {
        "trt_profile_min_shapes": _profile(record, rows=1, past=0, logits=1, total=1),
        "trt_profile_opt_shapes": _profile(record, _USUAL_ROWS, usual, _USUAL_ROWS, usual + _USUAL_ROWS),
        "trt_profile_max_shapes": _profile(record, context, context, min(_MOST_LOGITS, context), context),
    }


def tensorrt_options(record: ModelRecord, options: Mapping[str, str], cache: Path | None) -> dict[str, str]:
    """`options` with defaults for what they leave open; `cache` is a folder for engines and timings of this model."""
    defaults = {"trt_fp16_enable": str(int(record.precision == "fp16"))}
    if not any(name.startswith("trt_profile_") for name in options):
        defaults |= shape_profiles(record)
    if cache is not None:
        defaults |= {
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": str(cache),
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": str(cache),
        }
    return defaults | dict(options)


def _profile(record: ModelRecord, rows: int, past: int, logits: int, total: int) -> str:
    io, cache = record.io, record.cache
    shapes = input_shapes(record, rows, total, logits)
    for layer in range(cache.layers):
        for name in (io.past_key, io.past_value):
            shapes[name.format(layer=layer)] = (1, cache.kv_heads, past, cache.head_size)
    return ",".join(f"{name}:{'x'.join(map(str, shape))}" for name, shape in shapes.items())


def with_tensorrt_options(wanted: Sequence[Provider], record: ModelRecord, engines: Path | None) -> list[Provider]:
    """`wanted` with what TensorRT needs: options for this model, and CUDA for the nodes that it does not take.

    `engines` is the folder of `tensorrt_options`, made where it is needed.
    """
    cuda, tensorrt = PROVIDERS["cuda"], PROVIDERS["tensorrt"]
    prepared = list(wanted)
    for at, (name, options) in enumerate(wanted):
        if name == tensorrt:
            if engines is not None:
                engines.mkdir(parents=True, exist_ok=True)
            prepared[at] = (name, tensorrt_options(record, options, engines))
            if cuda not in dict(wanted) and cuda in onnxruntime().get_available_providers():
                prepared.insert(at + 1, (cuda, {k: v for k, v in options.items() if k == "device_id"}))
    return prepared
