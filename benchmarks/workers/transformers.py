"""PyTorch transformers in fp32: the model's forward pass and a cache, without the overhead of `generate`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.workers.engine import Engine, Opening
from benchmarks.workers.serve import serve
from benchmarks.workers.stepping import Stepping


class Transformers(Stepping):
    """A causal language model and its `DynamicCache`."""

    def __init__(self, opening: Opening) -> None:
        import torch
        from transformers import AutoModelForCausalLM, DynamicCache

        torch.set_num_threads(opening.threads)
        torch.set_grad_enabled(False)
        self._torch = torch
        # A cache without a configuration keeps all positions of sliding layers too, so that it can be rewound.
        self._make_cache = DynamicCache
        self._model = AutoModelForCausalLM.from_pretrained(opening.model, dtype=torch.float32).eval()
        self._cache: Any = None

    def clear(self) -> None:
        self._cache = self._make_cache()

    def extend(self, ids: Sequence[int], every: bool = False) -> npt.NDArray[Any]:
        logits = self._model(
            self._torch.tensor([ids]), past_key_values=self._cache, use_cache=True, logits_to_keep=0 if every else 1
        ).logits
        rows: npt.NDArray[np.float32] = logits[0].numpy()
        return rows if every else rows[-1]

    def rewind(self, length: int) -> None:
        self._cache.crop(length)


def import_engine() -> Callable[[Opening], Engine]:
    """Import torch and transformers."""
    import torch  # noqa: F401
    from transformers import AutoModelForCausalLM  # noqa: F401

    return Transformers


if __name__ == "__main__":
    serve(import_engine)
