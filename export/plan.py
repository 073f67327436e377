"""What an export would take and give, from a configuration alone: nothing is exported, no weight is read."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from nudge_onnx.choices import Precision
from nudge_onnx.errors import SourceError

from .passes import CONTEXT_LIMIT
from .quantise.blocks import BLOCK
from .source.configuration import context_length, load_config
from .source.hub import download
from .support.faults import one_line
from .support.memory import gibibytes
from .trace.traced_graph import BYTES_A_WEIGHT
from .weights import parameter_shapes

__all__ = ["ANSWERING", "ModelPlan", "as_dict", "as_table", "plan", "plan_model"]

_SENSITIVE = ("q_proj", "k_proj", "v_proj", "qkv_proj", "query_key_value", "c_attn", "down_proj", "fc2", "c_proj")
"""Parts of the names of matrices that `int4` keeps in eight bits (`quantise.sensitive`)."""

_TABLES = ("embed", "lm_head", "wte", "wpe", "word_embeddings")

_ALONE = 0.9 * 2**30
"""Bytes that PyTorch, transformers and ONNX Runtime take by themselves."""
_TRACING = 1.5 * 2**30
"""Bytes of an export while another process traces the model."""
_OF_TABLE, _OF_LAYER = 5.0, 6.0
"""Bytes for each weight: of the largest table while it is quantised, and of a layer while it is read. As seen of models
of up to 6.7 billion weights."""
_OF_PRODUCT = 16.0
"""Bytes for each product of two inputs of a matrix that GPTQ rounds: twice as floats, once as doubles."""
ANSWERING = 150 * 2**20
"""Bytes of a process that answers, without weights and caches."""
_SECONDS, _SECONDS_A_WEIGHT = 60.0, 1.3e-7
"""Of an export on two cores of a Zen 4 machine."""


@dataclass(frozen=True)
class ModelPlan:
    """One model of a bundle. All sizes are in bytes, without the tokenizer."""

    parameters: int
    """Weights, shared ones counted once."""
    largest: tuple[int, int]
    """Weights of the largest table, and of a layer."""
    rounded: Mapping[Precision, int]
    """Inputs of the widest matrix that GPTQ rounds."""
    context: int
    """Positions that it will read at most."""
    bundle: Mapping[Precision, int]
    """What the model takes on disk."""
    cache: Mapping[Precision, int]
    """Keys and values of one position."""
    seconds: float
    """About how long an export takes on two cores."""

    def answering(self, precision: Precision, positions: int) -> int:
        """Memory of the model in a process that answers, behind so many positions."""
        return self.bundle[precision] + self.cache[precision] * min(positions, self.context)

    def exporting(self, precision: Precision) -> int:
        """Least memory of the export: what a layer or the largest table takes, and for `fp16` all weights."""
        table, layer = self.largest
        held = max(_OF_TABLE * table, _OF_LAYER * layer)
        if precision == "fp16":
            held = BYTES_A_WEIGHT * self.parameters
        elif precision in self.rounded:
            held = max(held, _OF_LAYER * layer + _OF_PRODUCT * self.rounded[precision] ** 2)
        return round(max(_TRACING, _ALONE + held))


def plan_model(config: Any, context: int | None = None) -> ModelPlan:
    """Plan a model by its configuration in transformers.

    Raises `ValueError` if transformers cannot make a model of it.
    """
    shapes = parameter_shapes(config)
    text = config.get_text_config(decoder=True)
    heads = text.num_attention_heads
    size = getattr(text, "head_dim", None) or text.hidden_size // heads
    positions = 2 * text.num_hidden_layers * (getattr(text, "num_key_value_heads", None) or heads) * size
    rows = min(context_length(text), context or CONTEXT_LIMIT)
    # Cosines and sines of half a head each, for every kind of layer.
    kinds = hasattr(text, "rope_theta") + hasattr(text, "rope_local_base_freq")
    rotary = 4 * rows * size * kinds
    bytes_of = {name: rotary + sum(_size(*item, name) for item in shapes.items()) for name in get_args(Precision)}
    parameters = sum(map(math.prod, shapes.values()))
    tables = [math.prod(shape) for name, shape in shapes.items() if _is_one_of(name, _TABLES)]
    widths = {name: shape[-1] for name, shape in shapes.items() if len(shape) > 1 and not _is_one_of(name, _TABLES)}
    spared = [width for name, width in widths.items() if not _is_one_of(name, _SENSITIVE)]
    layer = (parameters - sum(tables)) // text.num_hidden_layers
    return ModelPlan(
        parameters=parameters,
        largest=(max(tables, default=0), layer),
        rounded={"int4": max(spared, default=0), "int4-all": max(widths.values())},
        context=rows,
        bundle={name: round(size) for name, size in bytes_of.items()},
        cache={name: positions * {"fp32": 4, "fp16": 2}.get(name, 1) for name in get_args(Precision)},
        seconds=_SECONDS + _SECONDS_A_WEIGHT * parameters,
    )


def _size(name: str, shape: tuple[int, ...], precision: Precision) -> float:
    """Bytes of a parameter of this name."""
    count = math.prod(shape)
    if precision == "fp16":
        return 2 * count
    if precision == "fp32" or len(shape) == 1:
        return 4 * count
    # Blocks have a scale of fp32, and of four bits a zero point, too.
    eight, four = 1 + 4 / BLOCK, 0.5 + (4 + 0.5) / BLOCK
    if precision == "int8":
        return count * (1 + 4 / (2 * BLOCK) if shape[-1] % (2 * BLOCK) == 0 else eight)
    kept = precision == "int4" and _is_one_of(name, (*_SENSITIVE, *_TABLES))
    return count * (eight if kept else four)


def _is_one_of(name: str, parts: Sequence[str]) -> bool:
    return any(part in name for part in parts)


def plan(
    sources: Mapping[str, str],
    *,
    revisions: Mapping[str, str | None],
    context: int | None = None,
    note: Callable[[str], None] | None = None,
) -> dict[str, ModelPlan]:
    """Plan the models of a bundle, by role: of a folder its `config.json` is read, of a hub id it is downloaded.

    Raises `SourceError`, one line, for a source without one, and `ExportError` for an architecture that cannot be
    exported.
    """
    return {role: _plan(src, revisions.get(role), context, note) for role, src in sources.items()}


def _plan(src: str, revision: str | None, context: int | None, note: Callable[[str], None] | None) -> ModelPlan:
    folder = Path(src).expanduser()
    if folder.suffix.lower() == ".gguf":
        raise SourceError(f"{src}: a plan is made from a configuration; give the hub id or folder of the same model")
    if not folder.is_dir():
        folder, _ = download(src, revision, only=("config.json",), note=note)
    try:
        return plan_model(load_config(folder), context)
    except (ValueError, KeyError, RuntimeError, ArithmeticError) as error:
        raise SourceError(f"{src}: there is no model of its sizes ({one_line(error)}); correct config.json") from None


def as_table(plans: Mapping[str, ModelPlan], positions: int) -> str:
    """Plans as text: for each precision the bundle, the memory to answer and to export with, and the time."""
    lines = []
    for role, model in plans.items():
        lines.append(f"{role:11} {model.parameters / 1e9:.2f} billion weights, texts of up to {model.context:,} tokens")
    minutes = sum(model.seconds for model in plans.values()) / 60
    lines += [
        "",
        f"{'':9} {'bundle':>10} {'answering':>12} {'exporting':>12}",
    ]
    for precision in get_args(Precision):
        bundle = sum(model.bundle[precision] for model in plans.values())
        answering = ANSWERING + sum(model.answering(precision, positions) for model in plans.values())
        exporting = max(model.exporting(precision) for model in plans.values())
        lines.append(f"{precision:9} {gibibytes(bundle):>10} {gibibytes(answering):>12} {gibibytes(exporting):>12}")
    lines += ["", f"Answers behind {positions:,} tokens of each model. About {minutes:.0f} minutes on two cores."]
    return "\n".join(lines) + "\n"


def as_dict(plans: Mapping[str, ModelPlan], positions: int) -> dict[str, Any]:
    """Plans for `--json`, in bytes and seconds."""
    return {
        role: {
            "parameters": model.parameters,
            "context": model.context,
            "bundle": dict(model.bundle),
            "cache_per_token": dict(model.cache),
            "answering": {name: model.answering(name, positions) for name in model.bundle},
            "exporting": {name: model.exporting(name) for name in model.bundle},
            "seconds": model.seconds,
        }
        for role, model in plans.items()
    }
