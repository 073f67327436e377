"""The models that are compared: what each engine runs, and where its file comes from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.making import genai_model, optimum_dynamic, optimum_export
from benchmarks.places import CHECKPOINTS, GGUF, bundle_of, role_of, there

# genai keeps its quantised weights in blocks of 32 with 8-bit activations by itself; said here so that it stays so.
_BLOCKS = {"block_size": "32", "accuracy_level": "4"}


@dataclass(frozen=True)
class Variant:
    """One engine at one precision."""

    engine: str
    title: str
    weights: str
    """What its weights are, in a few words."""
    model: Callable[[str], Path]
    """Path of the model of a role, made if it is not there."""
    files: Callable[[str], tuple[Path, ...]]
    """Files of graph and weights, whose size is the model's."""


def _ours(precision: str) -> Variant:
    def model(role: str) -> Path:
        return bundle_of(role, precision)

    def files(role: str) -> tuple[Path, ...]:
        folder = model(role) / role_of(role)
        return tuple(file for file in folder.iterdir() if file.name != "tokenizer.json")

    blocks = {
        "fp32": "fp32",
        "int8": "int8 in blocks of 64, smoothed",
        "int4": "the GGUF's blocks: four bits in four, others in eight",
        "int4-all": "all int4 in blocks of 32, calibrated",
    }
    return Variant("ours", f"nudge-onnx {precision}", blocks[precision], model, files)


def _genai(title: str, precision: str, weights: str, **options: str) -> Variant:
    def model(role: str) -> Path:
        return genai_model(there(CHECKPOINTS / role), role, title, precision, options)

    def files(role: str) -> tuple[Path, ...]:
        return tuple(model(role).glob("model.onnx*"))

    return Variant("genai", f"genai {title}", weights, model, files)


def _optimum(title: str, weights: str, make: Callable[[Path, str], Path]) -> Variant:
    def model(role: str) -> Path:
        return make(there(CHECKPOINTS / role), role)

    def files(role: str) -> tuple[Path, ...]:
        return tuple(model(role).glob("*.onnx*"))

    return Variant("optimum", f"optimum {title}", weights, model, files)


def _checkpoint(role: str) -> Path:
    return there(CHECKPOINTS / role)


def _gguf(role: str) -> Path:
    return there(GGUF[role])


VARIANTS = {
    variant.title: variant
    for variant in (
        _ours("fp32"),
        _ours("int8"),
        _ours("int4"),
        _ours("int4-all"),
        _genai("fp32", "fp32", "fp32"),
        _genai("int8", "int8", "int8 in blocks of 32", **_BLOCKS),
        _genai("int8, blocks of 64", "int8", "int8 in blocks of 64", **{**_BLOCKS, "block_size": "64"}),
        _genai("int4", "int4", "all int4 in blocks of 32, its default", **_BLOCKS),
        _genai(
            "int4, int8 head",
            "int4",
            "layers int4 by k-quant, head int8, blocks of 32",
            **_BLOCKS,
            algo_config="k_quant_last",
        ),
        _genai(
            "int8, pruned head",
            "int8",
            "int8 in blocks of 32, head for the last row only",
            **_BLOCKS,
            prune_lm_head="true",
        ),
        Variant(
            "llamacpp",
            "llama.cpp",
            "the GGUF itself: Q4_1 (SmolLM2), Q4_K_M (the others)",
            _gguf,
            lambda role: (_gguf(role),),
        ),
        Variant(
            "transformers",
            "transformers fp32",
            "fp32",
            _checkpoint,
            lambda role: (_checkpoint(role) / "model.safetensors",),
        ),
        _optimum("fp32", "fp32", optimum_export),
        _optimum("dynamic int8", "int8 a column, its quantiser", optimum_dynamic),
    )
}
