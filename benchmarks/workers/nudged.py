"""Whole answers by nudge-onnx: nudged, or by one of the two models."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.workers.serve import memory, serve_lines


class _Server:
    def __init__(self) -> None:
        self._lm: Any = None

    def load(self, bundle: str) -> dict[str, float]:
        """Import the package and open a bundle; caches are not kept, so that every answer begins with its prompt."""
        begun = time.perf_counter()
        from nudge_onnx import NudgedLM

        imported = time.perf_counter()
        self._lm = NudgedLM.load(bundle, cache_mib=0)
        return {"import_s": imported - begun, "load_s": time.perf_counter() - imported}

    def answer(self, prompt: str, tokens: int, **options: Any) -> dict[str, Any]:
        """An answer of at most so many tokens, and the seconds that its prompt and its tokens took."""
        answer = self._lm.generate(prompt, max_new_tokens=tokens, **options)
        return {
            "text": answer.text,
            "tokens": sum(answer.tokens.values()),
            "prefill_s": answer.timings.prefill,
            "decode_s": answer.timings.decode,
            "nudging_ratio": answer.nudging_ratio,
            "passes": answer.timings.passes,
            "fed": answer.timings.fed,
        }


if __name__ == "__main__":
    server = _Server()
    serve_lines({"load": server.load, "answer": server.answer, "memory": memory})
