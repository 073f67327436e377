"""What the matrices of a graph are multiplied with while it reads a short text, for rounding them by what counts."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

__all__ = ["WINDOW", "calibration_text", "observe"]

_TEXT = Path(__file__).with_name("calibration.txt")
WINDOW = 512
"""Tokens read at once, from an empty cache."""


def calibration_text() -> str:
    """A few pages written for this: prose, chat, lists, code, arithmetic, tables, other languages."""
    return _TEXT.read_text(encoding="utf-8")


def observe(
    model: onnx.ModelProto, values: Iterable[str], ids: Sequence[int], folder: Path, *, window: int = WINDOW
) -> dict[str, npt.NDArray[np.float32]]:
    """What the named values [batch, sequence, hidden] hold while the graph reads `ids`: [tokens, hidden] each.

    The weights go to `folder` meanwhile and come back afterwards, so that they are not held twice; it needs as many
    bytes of disk. `window` is at most the model's context.
    """
    names = sorted(set(values))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.onnx"
    try:
        onnx.save(model, path, save_as_external_data=True, location="weights")
        # What is left of the model is small.
        observed = onnx.ModelProto.FromString(model.SerializeToString())
        observed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
        path.write_bytes(observed.SerializeToString())
        seen = _run(path, names, ids, window)
        onnx.load_external_data_for_model(model, str(folder))
        return seen
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(path: Path, names: Sequence[str], ids: Sequence[int], window: int) -> dict[str, npt.NDArray[np.float32]]:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    # Packed matrices are another copy of the weights, and would be used for a few passes only.
    options.add_session_config_entry("session.disable_prepacking", "1")
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    seen = defaultdict(list)
    for start in range(0, len(ids), window):
        feeds = _feeds(session, ids[start : start + window])
        for name, array in zip(names, session.run(names, feeds), strict=True):
            seen[name].append(array.reshape(-1, array.shape[-1]))
    return {name: np.concatenate(arrays) for name, arrays in seen.items()}


def _feeds(session: Any, ids: Sequence[int]) -> dict[str, npt.NDArray[Any]]:
    known = {
        "input_ids": np.array([ids], np.int64),
        "attention_mask": np.ones((1, len(ids)), np.int64),
        "position_ids": np.arange(len(ids), dtype=np.int64)[None],
        "logits_rows": np.array([-1], np.int64),
    }
    feeds = {}
    for value in session.get_inputs():
        # An empty cache: batch, heads, positions, head size.
        empty = [1, *value.shape[1:2], 0, *value.shape[3:]]
        feeds[value.name] = known[value.name] if value.name in known else np.zeros(empty, np.float32)
    return feeds
