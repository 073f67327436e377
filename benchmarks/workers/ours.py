"""nudge-onnx: one model of a bundle, through the decoder that the nudging loop uses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy.typing as npt

from .engine import Engine, Opening
from .serve import serve


class Ours:
    """A `Decoder` and NumPy's arg-max."""

    def __init__(self, opening: Opening) -> None:
        from nudge_onnx.bundle import Bundle
        from nudge_onnx.runtime.decoder import Decoder
        from nudge_onnx.runtime.session import open_graph

        self._decoder = Decoder(open_graph(Bundle.open(opening.model), opening.role, ["cpu"]))

    def prefill(self, ids: Sequence[int]) -> int:
        return int(self._decoder.prefill(ids)[-1].argmax())

    def choose(self, ids: Sequence[int]) -> int:
        return int(self._decoder.feed(ids)[-1].argmax())

    def decode(self, token: int, count: int) -> list[int]:
        tokens = [token]
        for _ in range(count):
            tokens.append(self.choose(tokens[-1:]))
        return tokens[1:]

    def clear(self) -> None:
        self._decoder.rewind(0)

    def extend(self, ids: Sequence[int], every: bool = False) -> npt.NDArray[Any]:
        logits: npt.NDArray[Any] = self._decoder.feed(ids, rows=len(ids) if every else 1)
        return logits if every else logits[-1]

    def rewind(self, length: int) -> None:
        self._decoder.rewind(length)


def import_engine() -> Callable[[Opening], Engine]:
    """Import what a decoder needs."""
    import onnxruntime  # noqa: F401

    import nudge_onnx.runtime.decoder  # noqa: F401

    return Ours


if __name__ == "__main__":
    serve(import_engine)
