"""PyTorch in fp32: what an exported graph is measured against."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..source.loading import load_model
from ..source.named_weights import named_weights, why_whole
from ..source.skeleton import fill, skeleton
from ..support.quiet import quiet
from .lazy_modules import attach

__all__ = ["TorchReference"]

_AT_ONCE = 256
"""Tokens that are read together: each pass reads all weights."""


class TorchReference:
    """A checkpoint's model in transformers, on the CPU.

    Its weights are read module by module in each pass, where its code lets them; else they are in memory.
    """

    def __init__(self, checkpoint: Path, *, trust_remote_code: bool = False) -> None:
        self._checkpoint = checkpoint
        self._trust = trust_remote_code
        self._lazy = why_whole(checkpoint, trust_remote_code=trust_remote_code) is None
        model = self._model = self._lazily() if self._lazy else self._whole()
        self.parameters = int(model.num_parameters())
        """Number of weights, shared ones counted once."""
        # A few models, mostly with code of their own, always compute all rows.
        self._keeps = "logits_to_keep" in inspect.signature(model.forward).parameters

    def logits(self, texts: Sequence[Sequence[int]], rows: int) -> Iterator[npt.NDArray[np.float32]]:
        """Logits after each of the last `rows` ids of each text (all of a shorter one), `[rows, vocabulary]`.

        Each text is read without a cache. Short ones share a pass: what is filled up behind a text changes none of it.
        """
        for batch in _batches(texts):
            yield from self._pass(batch, rows)

    def _pass(self, texts: Sequence[Sequence[int]], rows: int) -> list[npt.NDArray[np.float32]]:
        import torch

        longest = max(map(len, texts))
        first = max(0, min(map(len, texts)) - rows)
        ids = torch.tensor([[*text, *[0] * (longest - len(text))] for text in texts])
        keep: dict[str, Any] = {"logits_to_keep": longest - first} if self._keeps else {}
        with torch.inference_mode(), quiet():
            logits = self._model(ids, use_cache=False, **keep).logits[:, -(longest - first) :].float().numpy()
        if self._lazy and not np.isfinite(logits).all():
            # A module that reads a parameter of another, and found it empty.
            self._lazy, self._model = False, self._whole()
            return self._pass(texts, rows)
        return [
            row[max(0, len(text) - rows) - first : len(text) - first] for row, text in zip(logits, texts, strict=True)
        ]

    def _lazily(self) -> Any:
        found = named_weights(self._checkpoint)
        model = skeleton(found)
        fill(model, found.weights, large=False)
        attach(model, found.weights)
        return model

    def _whole(self) -> Any:
        return load_model(self._checkpoint, trust_remote_code=self._trust)


def _batches(texts: Sequence[Sequence[int]]) -> list[list[Sequence[int]]]:
    """Texts in their order, some of them together."""
    batches: list[list[Sequence[int]]] = []
    for text in texts:
        together = [*batches[-1], text] if batches else []
        if together and len(together) * max(map(len, together)) <= _AT_ONCE:
            batches[-1] = together
        else:
            batches.append([text])
    return batches
