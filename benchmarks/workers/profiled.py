"""Steps of one model, with the time of each operator as ONNX Runtime's profiler has it."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.workers.serve import serve_lines

if TYPE_CHECKING:
    from nudge_onnx.runtime.sessions.providers import Provider

_WARM_UP = 8
_KINDS = {
    "MatMulNBits": "products",
    "MatMul": "products",
    "GroupQueryAttention": "attention",
    "If": "attention",  # apart from what its branches hold
    "SimplifiedLayerNormalization": "norms",
    "SkipSimplifiedLayerNormalization": "norms",
    "QuickGelu": "activation",
    "FastGelu": "activation",
    "Split": "activation",
}


def by_kind(events: Iterable[Mapping[str, Any]]) -> tuple[Counter[str], int]:
    """Microseconds by kind of operator, and the number of runs, of a profile's events without its first runs.

    What runs inside a branch is counted by itself, and not for the operator that chose it.
    """
    runs = sorted(event["ts"] for event in events if event["name"] == "model_run")[_WARM_UP:]
    nodes = (event for event in events if event["cat"] == "Node" and event["name"].endswith("_kernel_time"))
    spent: Counter[str] = Counter()
    around: list[tuple[float, str]] = []  # the operators that chose a branch: when they end, and their kind
    for event in sorted(nodes, key=lambda event: (event["ts"], -event["dur"])):
        if event["ts"] < runs[0]:
            continue
        while around and around[-1][0] <= event["ts"]:
            around.pop()
        kind = _KINDS.get(event["args"]["op_name"], "the rest")
        spent[kind] += event["dur"]
        if around:
            spent[around[-1][1]] -= event["dur"]
        if event["args"]["op_name"] == "If":
            around.append((event["ts"] + event["dur"], kind))
    return spent, len(runs)


def profile(bundle: str, role: str, ids: list[int], count: int) -> dict[str, float]:
    """Seconds of a step by kind of operator, over `count` steps behind `ids`."""
    from nudge_onnx.bundle import Bundle
    from nudge_onnx.runtime.inference.decoder import Decoder
    from nudge_onnx.runtime.inference.opening import open_model
    from nudge_onnx.runtime.sessions.creation import create_session
    from nudge_onnx.runtime.system.huge_pages import huge_pages

    with tempfile.TemporaryDirectory() as folder:

        def profiled(path: Path, name: str, wanted: Sequence[Provider], options: Any) -> Any:
            options.enable_profiling = True
            options.profile_file_prefix = str(Path(folder) / "profile")
            return create_session(path, name, wanted, options)

        with huge_pages():
            model = open_model(Bundle.open(bundle), role, ["cpu"], create=profiled)
        decoder = Decoder(model)
        decoder.read(head=True)
        decoder.prefill(ids)
        token = ids[-1]
        for _ in range(_WARM_UP + count):
            token = decoder.feed([token])[-1].argmax
        events = json.loads(Path(model.session.end_profiling()).read_text(encoding="utf-8"))
    spent, runs = by_kind(events)
    return {kind: 1e-6 * value / runs for kind, value in spent.items()}


if __name__ == "__main__":
    serve_lines({"profile": profile})
