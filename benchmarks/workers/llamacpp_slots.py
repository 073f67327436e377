"""llama.cpp with several sequences in one context: continuous batching as its server does, without the server."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.workers.llamacpp import BATCH, Opened
from benchmarks.workers.serve import serve_lines

_LONGEST = 1024


@dataclass
class _Sequence:
    """One answer on its way."""

    number: int
    ids: list[int]
    read: int = 0
    written: int = 0
    token: int | None = None
    row: int = -1
    """Its last id's place in the batch that was filled last, -1 for none."""
    times: list[float] = field(default_factory=list)


class _Server:
    def __init__(self) -> None:
        self._opened: Any = None

    def load(self, model: str, threads: int, slots: int) -> dict[str, float]:
        """Open a model with so many sequences."""
        self._opened = Opened(model, threads, slots * _LONGEST, slots)
        return {}

    def many(self, prompts: list[list[int]], tokens: int, at_once: int, ends: list[int]) -> dict[str, Any]:
        """Seconds for all answers, so many at a time; their tokens, and the seconds of each."""
        opened, ll = self._opened, self._opened.ll
        memory = ll.llama_get_memory(opened.context)
        ll.llama_memory_clear(memory, True)
        free = list(range(at_once))
        waiting = list(prompts)
        running: list[_Sequence] = []
        written = 0
        gaps: list[float] = []
        begun = time.perf_counter()
        while waiting or running:
            while waiting and free:
                running.append(_Sequence(free.pop(0), waiting.pop(0)))
            opened.run(self._filled(running))
            now = time.perf_counter()
            for one in list(running):
                if one.row < 0:
                    continue
                logits = ll.llama_get_logits_ith(opened.context, one.row)
                one.token = int(np.ctypeslib.as_array(logits, shape=(opened.vocabulary,)).argmax())
                over = one.token in ends
                if not over:
                    one.written += 1
                    one.times.append(now)
                if over or one.written == tokens:
                    running.remove(one)
                    free.append(one.number)
                    ll.llama_memory_seq_rm(memory, one.number, -1, -1)
                    written += one.written
                    gaps += list(np.diff(one.times))
        return {"seconds": time.perf_counter() - begun, "tokens": written, "gaps": gaps}

    def _filled(self, running: Sequence[_Sequence]) -> int:
        """Fill the batch with a token of each answer, and as much of prompts as there is room for; how many in all."""
        count = 0
        for one in running:
            one.row = -1
            if one.read == len(one.ids) and one.token is not None:
                self._opened.put(count, one.token, one.read + one.written - 1, one.number, wanted=True)
                one.row = count
                count += 1
        for one in running:
            while one.read < len(one.ids) and count < BATCH:
                last = one.read == len(one.ids) - 1
                self._opened.put(count, one.ids[one.read], one.read, one.number, wanted=last)
                one.row = count if last else -1
                one.read += 1
                count += 1
        return count


if __name__ == "__main__":
    server = _Server()
    serve_lines({"load": server.load, "many": server.many})
