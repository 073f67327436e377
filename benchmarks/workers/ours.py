"""nudge-onnx: one model of a bundle, through the decoder that the nudging loop uses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from benchmarks.workers.engine import Engine, Opening
from benchmarks.workers.serve import serve
from benchmarks.workers.stepping import Stepping

if TYPE_CHECKING:  # importing the package is a part of what is timed
    from nudge_onnx.runtime.inference.outputs import Rows


class Ours(Stepping):
    """A `Decoder`: steps read the uncertainty head where the graph has one, as greedy answers do."""

    def __init__(self, opening: Opening) -> None:
        from nudge_onnx.bundle import Bundle
        from nudge_onnx.runtime.inference.decoder import Decoder
        from nudge_onnx.runtime.inference.opening import open_model
        from nudge_onnx.runtime.system.huge_pages import huge_pages

        with huge_pages():
            self._decoder = Decoder(open_model(Bundle.open(opening.model), opening.role, ["cpu"]))

    def prefill(self, ids: Sequence[int]) -> int:
        self._decoder.read(head=self._decoder.has_head)
        return _first_choice(self._decoder.prefill(ids))

    def choose(self, ids: Sequence[int]) -> int:
        self._decoder.read(head=self._decoder.has_head)
        return _first_choice(self._decoder.feed(ids))

    def clear(self) -> None:
        self._decoder.rewind(0)

    def extend(self, ids: Sequence[int], every: bool = False) -> npt.NDArray[Any]:
        self._decoder.read(head=False)
        if every:
            rows = np.asarray(self._decoder.feed(ids, rows=len(ids)))
        else:
            rows = np.asarray(self._decoder.prefill(ids, kept=self._decoder.length))[-1]
        return rows

    def rewind(self, length: int) -> None:
        self._decoder.rewind(length)


def _first_choice(rows: Rows) -> int:
    return rows[-1].argmax if isinstance(rows, list) else int(rows[-1].argmax())


def import_engine() -> Callable[[Opening], Engine]:
    """Import what a decoder needs."""
    import onnxruntime  # noqa: F401

    import nudge_onnx.runtime.inference.decoder  # noqa: F401

    return Ours


if __name__ == "__main__":
    serve(import_engine)
