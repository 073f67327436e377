"""Speed of a bundle on this machine: each model alone, nudged with and without reading ahead, and what a pass costs.

`python benchmarks/nudging.py BUNDLE ...` interleaves everything and prints medians, ratios and one JSON object each.
Progress goes to stderr. Single machines are noisy: compare the ratios of one run.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from nudge_onnx import NudgedLM
from nudge_onnx.bundle import Bundle
from nudge_onnx.runtime.cache import make_cache
from nudge_onnx.runtime.decoder import Decoder
from nudge_onnx.runtime.session import open_graph

PROMPTS = (
    "What are three good reasons to learn a second language?",
    "Explain how a bicycle stays upright, in simple words.",
    "Write a short letter to a friend about the sea.",
    "How do I bake bread at home?",
    "Why is the sky blue?",
)
MODES: dict[str, dict[str, Any]] = {
    "base": {"mode": "base"},
    "nudge": {"mode": "nudge"},
    "nudged, off": {"speculation": "off"},
    "nudged, auto": {"speculation": "auto"},
    "nudged, 8": {"speculation": 8},
}
TOKENS = 64
ROWS = (2, 3, 5, 9, 16)
FILLED = 64


def answers(folder: Path, rounds: int) -> dict[str, Any]:
    """Seconds per token of every mode, over the prompts, interleaved; each answer from empty caches."""
    seconds: dict[str, list[float]] = defaultdict(list)
    ratios = []
    with NudgedLM.load(folder, cache_mib=0) as lm:
        load = lm.load_seconds
        lm.generate(PROMPTS[0], max_new_tokens=8)
        for number in range(rounds):
            for prompt in PROMPTS:
                print(f"{folder.name}: round {number + 1} of {rounds}: {prompt}", file=sys.stderr)
                for name, options in MODES.items():
                    lm._pool.clear()
                    answer = lm.generate(prompt, max_new_tokens=TOKENS, **options)
                    tokens = sum(answer.tokens.values())
                    if tokens >= TOKENS // 2:
                        seconds[name].append(answer.timings.decode / tokens)
                    if name == "nudged, auto":
                        ratios.append(answer.nudging_ratio)
    per_token = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "load_s": round(load, 2),
        "tokens_per_second": {name: round(1 / value, 1) for name, value in per_token.items()},
        "auto_over_off": round(per_token["nudged, off"] / per_token["nudged, auto"], 2),
        "nudged_over_base": round(per_token["base"] / per_token["nudged, auto"], 2),
        "nudging_ratio": round(statistics.mean(ratios), 2),
    }


def passes(folder: Path, role: str, repeats: int) -> dict[str, float]:
    """Milliseconds of a pass by its rows, and of a true one-row pass, on a cache of `FILLED` positions."""
    bundle = Bundle.open(folder)
    graph = open_graph(bundle, role, ["cpu"])
    decoder = Decoder(graph)
    ids = list(range(1000, 1000 + FILLED + max(ROWS)))
    decoder.feed(ids[:FILLED])
    times: dict[str, list[float]] = defaultdict(list)
    single = _Single(decoder)
    for _ in range(repeats):
        start = time.perf_counter()
        single.run(ids[FILLED])
        times["1"].append(time.perf_counter() - start)
        for rows in ROWS:
            decoder.rewind(FILLED)
            start = time.perf_counter()
            decoder.feed(ids[FILLED : FILLED + rows])
            times[str(rows)].append(time.perf_counter() - start)
    return {rows: round(statistics.median(values) * 1e3, 2) for rows, values in times.items()}


class _Single:
    """A pass of one row, which the runtime never makes: to tell what its second row costs."""

    def __init__(self, decoder: Decoder) -> None:
        import numpy as np

        self._np = np
        self._graph = decoder.graph
        self._cache = make_cache(decoder.graph, decoder.graph.record.context_length)
        self._binding = decoder.graph.session.io_binding()
        self._cache.bind(self._binding, FILLED + 1)  # allocates; what the positions hold costs no time
        self._cache.length = FILLED

    def run(self, token: int) -> None:
        np, io = self._np, self._graph.record.io
        past = FILLED
        inputs = {io.input_ids: np.array([[token]]), io.attention_mask: np.ones((1, past + 1), np.int64)}
        if io.position_ids:
            inputs[io.position_ids] = np.array([[past]])
        if io.logits_rows:
            inputs[io.logits_rows] = np.array([0])
        for name, array in inputs.items():
            self._binding.bind_cpu_input(name, array)
        self._cache.bind(self._binding, 1)
        self._binding.bind_output(io.logits, "cpu")
        self._graph.session.run_with_iobinding(self._binding)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", nargs="+", type=Path)
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    for folder in arguments.bundles:
        figures = {"bundle": folder.name, "machine": platform.machine(), **answers(folder, arguments.rounds)}
        for role in ("base", "nudge"):
            figures[f"pass_ms_{role}"] = passes(folder, role, repeats=15)
        figures["peak_memory_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
