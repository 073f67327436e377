"""An open session together with what is known of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from nudge_onnx.bundle import ModelRecord
from nudge_onnx.errors import ProviderError

from .cuda_graphs import CudaGraphs
from .providers import onnxruntime

__all__ = ["Breaker", "ModelSession", "RowBits", "first_line"]

RowBits: TypeAlias = Literal["all", "pairs", "eights", "none"]
"""Which passes give a row the same bits, whatever else they read.

All, those of two rows or more (`pairs`), those of eight rows, or none.
"""


class Breaker:
    """Breaks a pass off while it runs: it raises `ProviderError`, and what it would have written counts for nothing."""

    def __init__(self) -> None:
        self.options = onnxruntime().RunOptions()
        """ONNX Runtime's, to run the pass with."""
        # That a pass was broken off is no error, and ONNX Runtime would print it as one.
        self.options.log_severity_level = 4
        self.used = False
        """Whether the pass was to be broken off."""

    def use(self) -> None:
        """Break the pass off, before its next node; any thread may call this."""
        self.used = True
        self.options.terminate = True


@dataclass(frozen=True)
class ModelSession:
    """An open session, the record that describes its inputs, and the provider that runs it."""

    session: Any
    record: ModelRecord
    provider: str
    """Short name, for example `cuda`."""
    device_id: int = 0
    """Which of several devices of its kind the provider runs on."""
    cuda_graphs: CudaGraphs | None = None
    """How it runs passes that are recorded and replayed; `None` where the provider was not told to."""
    rows: RowBits = "none"
    """Which passes share bits where it runs."""
    batches: bool = False
    """Whether a row has the same bits there in a pass over several texts, one row each."""
    opened_with: Mapping[str, Any] = field(default_factory=dict)
    """What a session of the same graph may have otherwise: providers and their options, threads, ... JSON-ready."""

    @property
    def device(self) -> str:
        """Where cache buffers live: `cuda` for the CUDA and TensorRT providers, else `cpu`."""
        return "cuda" if self.provider in ("cuda", "tensorrt") else "cpu"

    def run(self, binding: Any, recorded: Any = None, breaker: Breaker | None = None) -> None:
        """A pass on what is bound; `recorded` are run options that `cuda_graphs` made for it.

        `breaker` may break it off, if it is not recorded.

        Raises `ProviderError` with ONNX Runtime's reason if the provider cannot run it.
        """
        try:
            if self.cuda_graphs is None:
                self.session.run_with_iobinding(binding, *((breaker.options,) if breaker else ()))
            else:
                self.cuda_graphs.run(self.session, binding, recorded)
        except Exception as error:  # onnxruntime raises a family of types of its own
            raise ProviderError(
                f"provider {self.provider!r} failed in {self.record.graph} ({first_line(error)}); "
                "use another provider, or check the bundle with nudge-onnx inspect --check"
            ) from error


def first_line(error: Exception) -> str:
    """What an error of ONNX Runtime says before its trace."""
    return next(iter(str(error).splitlines()), type(error).__name__)
