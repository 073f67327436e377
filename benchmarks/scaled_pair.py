"""The cost-scaled pair: the real pair, with a base model whose steps cost 7 times those of the nudging model or more.

The paper's pairs are 7 to 14 to 1, and no such pair can be had here. Extra layers that change nothing stand for the
size: the same words with the same certainty at the paper's ratio of costs. See `extra_layers`.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from safetensors.numpy import load_file, save_file

from benchmarks import extra_layers
from benchmarks.extra_layers import add_layers, turned
from benchmarks.places import BUNDLES, CHECKPOINTS, EXPORTS, GGUF, MADE, files_of, there
from nudge_onnx.bundle import MANIFEST, Bundle, FileRecord, sha256_of
from nudge_onnx.choices import Precision
from nudge_onnx.export.pipeline import Request, export
from nudge_onnx.export.support.progress import Progress
from nudge_onnx.export.support.scratch import fingerprint, once

EXTRA_LAYERS = 140
# Nothing that is added to a stream of float32 numbers changes by so little; a power of two rounds as it did before.
_FAINT = np.float32(2.0**-100)
# What is made is made anew when the way it is made changes.
_RECIPE = (Path(__file__), Path(extra_layers.__file__))
_CACHE = ("past_key", "past_value", "present_key", "present_value")


def scaled_bundle(precision: Precision, extra: int = EXTRA_LAYERS) -> Path:
    """The bundle of the real pair with `extra` more layers in its base model, made once."""
    mark = fingerprint([there(BUNDLES / precision) / MANIFEST, *_RECIPE])

    def make(partial: Path) -> None:
        print(f"models: adding {extra} layers to the base model in {precision}", file=sys.stderr)
        scale_bundle(Bundle.open(_with_layers_apart(precision)), partial, extra)

    return once(MADE / f"scaled-{precision}-{extra}-{mark}", make)


def _with_layers_apart(precision: Precision) -> Path:
    """The bundle of the real pair as it is before layers are joined in branches, exported once."""
    folder = MADE / f"apart-{precision}-{fingerprint([BUNDLES / precision / MANIFEST])}"
    if not folder.is_dir():  # an export leaves all of it, or nothing
        request = Request(
            sources={role: str(there(file)) for role, file in GGUF.items()},
            output=folder,
            precisions=dict.fromkeys(GGUF, precision),
            skipped_passes=("join-branches",),
            work=EXPORTS,
        )
        export(request, Progress())
    return folder


def scale_bundle(source: Bundle, output: Path, extra: int) -> None:
    """Write a copy of a bundle, exported without `join-branches`, whose base model has `extra` more layers."""
    manifest = source.manifest
    record = manifest.models["base"]
    for relative in manifest.files:
        if relative != record.graph and relative not in record.external_data:
            target = output / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source.path(relative), target)
    model = onnx.load(source.path(record.graph))
    add_layers(model, extra, {key: getattr(record.io, key) for key in _CACHE})
    graph = output / record.graph
    graph.parent.mkdir(parents=True, exist_ok=True)
    data = f"{graph.name}.data"
    onnx.save(model, graph, save_as_external_data=True, location=data, size_threshold=1024)
    external = (f"{Path(record.graph).parent}/{data}",) if (graph.parent / data).exists() else ()
    scaled = dataclasses.replace(
        record,
        external_data=external,
        cache=dataclasses.replace(record.cache, layers=record.cache.layers + extra),
        parameters=None,
        parity=None,
    )
    kept = {path: entry for path, entry in manifest.files.items() if (output / path).is_file()}
    written = {
        path: FileRecord((output / path).stat().st_size, sha256_of(output / path)) for path in (record.graph, *external)
    }
    manifest = dataclasses.replace(
        manifest,
        name=f"{manifest.name}, base model with {extra} more layers",
        models={**manifest.models, "base": scaled},
        files={**kept, **written},
    )
    (output / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")


def scaled_checkpoint(extra: int = EXTRA_LAYERS) -> Path:
    """The base model's checkpoint with as many layers that change nothing, for engines that read checkpoints."""
    source = there(CHECKPOINTS / "base")
    mark = fingerprint([*files_of(source), *_RECIPE])
    return once(MADE / f"scaled-checkpoint-{extra}-{mark}", lambda partial: scale_checkpoint(source, partial, extra))


def scale_checkpoint(source: Path, output: Path, extra: int) -> None:
    """Write a copy of a checkpoint with `extra` more layers, whose output projections are next to zero, behind its own.

    Not zero, which would be the same matrix in each: see `extra_layers`.
    """
    print(f"models: adding {extra} layers to the base model's checkpoint", file=sys.stderr)
    config: dict[str, Any] = json.loads((source / "config.json").read_text(encoding="utf-8"))
    tensors = load_file(source / "model.safetensors")
    layers = config["num_hidden_layers"]
    for number in range(extra):
        template, target = f"model.layers.{number % layers}.", f"model.layers.{layers + number}."
        for name in [name for name in tensors if name.startswith(template)]:
            copied = turned(tensors[name], number // layers + 1)
            silent = name.endswith(("o_proj.weight", "down_proj.weight"))
            tensors[target + name.removeprefix(template)] = copied * _FAINT if silent else copied
    config["num_hidden_layers"] = layers + extra
    if "layer_types" in config:
        config["layer_types"] += [config["layer_types"][number % layers] for number in range(extra)]
    for path in source.iterdir():
        if path.suffix in (".json", ".jinja"):
            shutil.copy(path, output)
    (output / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    save_file(tensors, output / "model.safetensors", metadata={"format": "pt"})
