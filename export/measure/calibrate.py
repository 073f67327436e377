"""What a graph computes while it reads a short text, for rounding by what counts."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from ..passes.graph_editor import GraphEditor
from ..passes.int8_cache import Floats, cached_values, reach
from ..support.progress import Report, unheard

__all__ = ["WINDOW", "Calibration"]

WINDOW = 512
"""Tokens to read at once where a model's context has room for them."""


@dataclass(frozen=True)
class Calibration:
    """A text that graphs read, and a folder on a disk with room for a model's weights.

    They go there while a graph reads the text, and come back afterwards, so that they are not held twice.
    """

    ids: Sequence[int]
    folder: Path
    window: int = WINDOW
    """Tokens read at once, from an empty cache; at most the model's context."""

    def observe(self, model: onnx.ModelProto, values: Iterable[str], report: Report = unheard) -> dict[str, Floats]:
        """What the named values [..., hidden] hold, [tokens, hidden] each."""
        seen = defaultdict(list)
        for arrays in self._read(model, values, report):
            for name, array in arrays.items():
                seen[name].append(array.reshape(-1, array.shape[-1]))
        return {name: np.concatenate(parts) for name, parts in seen.items()}

    def channel_sizes(
        self, model: onnx.ModelProto, values: Iterable[str], report: Report = unheard
    ) -> dict[str, Floats]:
        """The root mean square of each channel of the named values [..., hidden], [hidden] each.

        Relative to the whole text: an expert of a mixture reads a part of it, and no other compares with its sizes.
        """
        squares: dict[str, Any] = defaultdict(float)
        for arrays in self._read(model, values, report):
            for name, array in arrays.items():
                squares[name] += np.square(array, dtype=np.float64).reshape(-1, array.shape[-1]).sum(axis=0)
        return {name: np.sqrt(total / len(self.ids)).astype(np.float32) for name, total in squares.items()}

    def cache_peaks(self, model: onnx.ModelProto, report: Report = unheard) -> dict[str, Floats]:
        """How far keys and values reach (see `int8_cache`), [heads, head_size] each.

        Empty for a graph whose attention is not one operator.
        """
        turned = cached_values(GraphEditor(model))
        peaks: dict[str, Floats] = {}
        for arrays in self._read(model, turned, report) if turned else ():
            for name, array in arrays.items():
                found = reach(array[0], turned[name])
                peaks[name] = np.maximum(peaks.get(name, found), found)
        return peaks

    def _read(self, model: onnx.ModelProto, values: Iterable[str], report: Report) -> Iterator[Mapping[str, Floats]]:
        """The named values, window by window."""
        names = sorted(set(values))
        self.folder.mkdir(parents=True, exist_ok=True)
        # A name of its own: other exports may have the same folder.
        folder = Path(tempfile.mkdtemp(prefix=".calibration-", dir=self.folder))
        path = folder / "model.onnx"
        try:
            onnx.save(model, path, save_as_external_data=True, location="weights")
            # What is left of the model is small.
            observed = onnx.ModelProto.FromString(model.SerializeToString())
            known = {value.name for value in observed.graph.output}
            observed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in known)
            path.write_bytes(observed.SerializeToString())
            session = _session(path)
            starts = range(0, len(self.ids), self.window)
            for index, start in enumerate(starts):
                report(index, len(starts))
                feeds = _feeds(session, self.ids[start : start + self.window])
                yield dict(zip(names, session.run(names, feeds), strict=True))
            onnx.load_external_data_for_model(model, str(folder))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            with contextlib.suppress(OSError):  # another's, or not empty
                self.folder.rmdir()


def _session(path: Path) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    # Packed matrices are another copy of the weights, and would be used for a few passes only.
    options.add_session_config_entry("session.disable_prepacking", "1")
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


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
