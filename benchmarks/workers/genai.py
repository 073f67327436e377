"""onnxruntime-genai: its generator, which owns the loop, the cache and the sampling."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.workers.engine import Engine, Opening
from benchmarks.workers.serve import serve


class Genai:
    """A model folder of its builder, and one generator a text."""

    def __init__(self, opening: Opening) -> None:
        import onnxruntime_genai as og

        self._og = og
        config = og.Config(opening.model)
        # By itself it takes one thread.
        threads = {"session_options": {"intra_op_num_threads": opening.threads}}
        config.overlay(json.dumps({"model": {"decoder": threads}}))
        self._model = og.Model(config)
        settings = json.loads((Path(opening.model) / "genai_config.json").read_text())
        window = settings["model"]["decoder"].get("sliding_window", {}).get("window_size", 0)
        # A windowed cache refuses a shorter maximum than its window.
        self._longest = max(opening.context, window)
        self._generator: Any = None

    def prefill(self, ids: Sequence[int]) -> int:
        self.clear()
        return self.choose(ids)

    def choose(self, ids: Sequence[int]) -> int:
        self._generator.append_tokens(np.array(ids, np.int32))
        self._generator.generate_next_token()
        return int(self._generator.get_next_tokens()[0])

    def decode(self, _token: int, count: int) -> list[int]:
        for _ in range(count):
            self._generator.generate_next_token()
        return [int(token) for token in self._generator.get_sequence(0)[-count:]]

    def clear(self) -> None:
        parameters = self._og.GeneratorParams(self._model)
        # The least length keeps an end token from ending the measurement.
        parameters.set_search_options(max_length=self._longest, min_length=self._longest, do_sample=False)
        self._generator = self._og.Generator(self._model, parameters)

    def extend(self, ids: Sequence[int], every: bool = False) -> npt.NDArray[Any]:
        self._generator.append_tokens(np.array(ids, np.int32))
        if every:
            rows: npt.NDArray[np.float32] = self._generator.get_output("logits")[0]
            return rows
        last: npt.NDArray[np.float32] = self._generator.get_logits()[0, -1]
        return last

    def rewind(self, length: int) -> None:
        self._generator.rewind_to(length)


def import_engine() -> Callable[[Opening], Engine]:
    """Import the package."""
    import onnxruntime_genai  # noqa: F401

    return Genai


if __name__ == "__main__":
    serve(import_engine)
