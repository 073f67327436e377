"""Whole answers by nudge-onnx: nudged, or by one of the two models."""

from __future__ import annotations

import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.workers.serve import memory, serve_lines

_CACHE_MIB = 4096


class _Server:
    def __init__(self) -> None:
        self._lm: Any = None
        self._number = 0

    def load(self, bundle: str, slots: int = 1) -> dict[str, float]:
        """Import the package and open a bundle; one slot keeps no caches: every answer begins with its prompt."""
        begun = time.perf_counter()
        from nudge_onnx import NudgedLM

        imported = time.perf_counter()
        self._lm = NudgedLM.load(bundle, cache_mib=0 if slots == 1 else _CACHE_MIB, slots=slots)
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

    def many(self, prompts: list[str], tokens: int, at_once: int, **options: Any) -> dict[str, Any]:
        """Seconds for all answers, so many at a time; their texts and tokens, and the seconds of each token."""
        self._lm.pool.clear()
        begun = time.perf_counter()
        with ThreadPoolExecutor(at_once) as threads:
            answers = list(threads.map(lambda prompt: self._timed(prompt, tokens, options), prompts))
        return {
            "seconds": time.perf_counter() - begun,
            "texts": [text for text, _, _ in answers],
            "tokens": sum(count for _, count, _ in answers),
            "gaps": [gap for _, _, gaps in answers for gap in gaps],
        }

    def first_tokens(self, prompt: str, long: str, arrivals: int) -> dict[str, float]:
        """Seconds to the first piece of an answer alone, and how many more while a long prompt is read beside it."""
        lm = self._lm
        lm.pool.clear()
        steps = lm.generate(prompt, mode="base", max_new_tokens=32)
        alone = statistics.median(self.first(prompt) for _ in range(arrivals))
        more = []
        for number in range(arrivals):
            lm.pool.clear()
            with lm.stream(long, max_new_tokens=1) as stream:
                reading = threading.Thread(target=lambda stream=stream: next(stream, None))
                reading.start()
                # At another moment of a block each time.
                time.sleep(0.3 + 0.037 * number)
                assert reading.is_alive(), "the long prompt was read before anything came beside it"
                more.append(self.first(prompt) - alone)
            reading.join()
        return {
            "step_s": steps.timings.decode / sum(steps.tokens.values()),
            "alone_s": alone,
            "more_s": statistics.median(more),
            "most_s": max(more),
        }

    def first(self, prompt: str) -> float:
        """Seconds to the first piece of an answer."""
        # A word of its own, for no cache to hold it.
        self._number += 1
        begun = time.perf_counter()
        with self._lm.stream(f"{self._number}: {prompt}", max_new_tokens=64) as stream:
            next(stream)
            return time.perf_counter() - begun

    def _timed(self, prompt: str, tokens: int, options: dict[str, Any]) -> tuple[str, int, list[float]]:
        gaps: list[float] = []
        with self._lm.stream(prompt, max_new_tokens=tokens, **options) as stream:
            last = None
            for piece in stream:
                now = time.perf_counter()
                if last is not None:
                    gaps += [(now - last) / max(1, len(piece.token_ids))] * len(piece.token_ids)
                last = now
            return stream.answer.text, sum(stream.answer.tokens.values()), gaps


if __name__ == "__main__":
    server = _Server()
    serve_lines(
        {
            "load": server.load,
            "answer": server.answer,
            "many": server.many,
            "first": server.first,
            "first_tokens": server.first_tokens,
            "memory": memory,
        }
    )
