"""What a session does whose CUDA provider records runs as CUDA graphs (`enable_cuda_graph`).

ONNX Runtime records what a run launches under a number that its options name (`gpu_graph_id`), and replays it whenever
a run names that number again.
"""

from __future__ import annotations

from itertools import count
from threading import Lock
from typing import Any

from .providers import onnxruntime

__all__ = ["CudaGraphs"]

_NONE = -1  # a run that is neither recorded nor replayed; 0 is what ONNX Runtime takes for a run that names nothing


class CudaGraphs:
    """Hands out numbers, and runs one pass at a time: ONNX Runtime wants no two threads in a session that records."""

    def __init__(self) -> None:
        self._turn = Lock()
        self._numbers = count(1)
        self._unrecorded = _named(_NONE)

    def fresh(self) -> Any:
        """Run options under a number of their own, for one binding whose memory and shapes stay as they are."""
        return _named(next(self._numbers))

    def run(self, session: Any, binding: Any, options: Any = None) -> None:
        """Run a binding: recorded or replayed with `options` that `fresh` made for it, otherwise as it is."""
        with self._turn:
            session.run_with_iobinding(binding, options or self._unrecorded)


def _named(number: int) -> Any:
    options = onnxruntime().RunOptions()
    options.add_run_config_entry("gpu_graph_id", str(number))
    return options
