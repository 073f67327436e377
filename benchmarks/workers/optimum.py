"""Optimum's `ORTModelForCausalLM`: its forward pass and the tuple of caches that it returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.workers.engine import Engine, Opening
from benchmarks.workers.serve import serve
from benchmarks.workers.stepping import Stepping


class Optimum(Stepping):
    """The model, and its caches as they grow."""

    def __init__(self, opening: Opening) -> None:
        import torch
        from optimum.onnxruntime import ORTModelForCausalLM

        torch.set_num_threads(opening.threads)
        self._torch = torch
        self._model = ORTModelForCausalLM.from_pretrained(opening.model, use_cache=True, use_io_binding=True)
        self._past: Any = None
        self._length = 0

    def clear(self) -> None:
        self._past, self._length = None, 0

    def extend(self, ids: Sequence[int], every: bool = False) -> npt.NDArray[Any]:
        torch, total = self._torch, self._length + len(ids)
        output = self._model(
            torch.tensor([ids]),
            attention_mask=torch.ones((1, total), dtype=torch.int64),
            position_ids=torch.arange(self._length, total)[None],
            past_key_values=self._past,
        )
        self._past, self._length = output.past_key_values, total
        rows: npt.NDArray[np.float32] = output.logits[0].numpy()
        return rows if every else rows[-1]

    def rewind(self, length: int) -> None:
        self._past = tuple(tuple(tensor[:, :, :length].contiguous() for tensor in layer) for layer in self._past)
        self._length = length


def import_engine() -> Callable[[Opening], Engine]:
    """Import torch, transformers and optimum."""
    from optimum.onnxruntime import ORTModelForCausalLM  # noqa: F401

    return Optimum


if __name__ == "__main__":
    serve(import_engine)
