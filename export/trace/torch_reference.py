"""PyTorch in fp32: what an exported graph is measured against."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..source.loading import load_model
from ..support.quiet import quiet

__all__ = ["TorchReference"]


class TorchReference:
    """A checkpoint's model in transformers, on the CPU."""

    def __init__(self, checkpoint: Path, *, trust_remote_code: bool = False) -> None:
        model = self._model = load_model(checkpoint, trust_remote_code=trust_remote_code)
        self.parameters = int(model.num_parameters())
        """Number of weights, shared ones counted once."""
        # A few models, mostly with code of their own, always compute all rows.
        self._keeps = "logits_to_keep" in inspect.signature(model.forward).parameters

    def logits(self, ids: Sequence[int], rows: int) -> npt.NDArray[np.float32]:
        """Logits after each of the last `rows` ids, `[rows, vocabulary]`, from one pass without a cache."""
        import torch

        with torch.inference_mode(), quiet():
            output = self._model(torch.tensor([list(ids)]), use_cache=False, **self._keep(rows))
        result: npt.NDArray[np.float32] = output.logits[0, -rows:].float().numpy()
        return result

    def greedy(self, ids: Sequence[int], count: int) -> list[int]:
        """The `count` most likely tokens one after the other; end tokens do not end them."""
        import torch

        chosen: list[int] = []
        past, new = None, list(ids)
        with torch.inference_mode(), quiet():
            for _ in range(count):
                output = self._model(torch.tensor([new]), past_key_values=past, use_cache=True, **self._keep(1))
                past = output.past_key_values
                new = [int(output.logits[0, -1].argmax())]
                chosen += new
        return chosen

    def _keep(self, rows: int) -> dict[str, Any]:
        return {"logits_to_keep": rows} if self._keeps else {}
