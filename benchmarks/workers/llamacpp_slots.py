"""llama.cpp with several sequences in one context: continuous batching as its server does, without the server."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.workers.serve import serve_lines

_BATCH = 512
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
        self._ll: Any = None

    def load(self, model: str, threads: int, slots: int) -> dict[str, float]:
        """Open a model with so many sequences."""
        import llama_cpp as ll

        self._ll = ll
        ll.llama_log_set(_QUIET, ctypes.c_void_p(0))
        ll.llama_backend_init()
        self._model = ll.llama_model_load_from_file(model.encode(), ll.llama_model_default_params())
        options = ll.llama_context_default_params()
        options.n_seq_max = slots
        options.n_ctx = slots * _LONGEST
        options.n_batch = options.n_ubatch = _BATCH
        options.n_threads = options.n_threads_batch = threads
        options.no_perf = True
        self._context = ll.llama_init_from_model(self._model, options)
        self._vocabulary = ll.llama_vocab_n_tokens(ll.llama_model_get_vocab(self._model))
        self._batch = ll.llama_batch_init(_BATCH, 0, 1)
        return {}

    def many(self, prompts: list[list[int]], tokens: int, at_once: int, ends: list[int]) -> dict[str, Any]:
        """Seconds for all answers, so many at a time; their tokens, and the seconds of each."""
        memory = self._ll.llama_get_memory(self._context)
        self._ll.llama_memory_clear(memory, True)
        free = list(range(at_once))
        waiting = list(prompts)
        running: list[_Sequence] = []
        written = 0
        gaps: list[float] = []
        begun = time.perf_counter()
        while waiting or running:
            while waiting and free:
                running.append(_Sequence(free.pop(0), waiting.pop(0)))
            self._fill(running)
            code = self._ll.llama_decode(self._context, self._batch)
            assert code == 0, f"llama_decode returned {code}"
            now = time.perf_counter()
            for one in list(running):
                if one.row < 0:
                    continue
                logits = self._ll.llama_get_logits_ith(self._context, one.row)
                one.token = int(np.ctypeslib.as_array(logits, shape=(self._vocabulary,)).argmax())
                over = one.token in ends
                if not over:
                    one.written += 1
                    one.times.append(now)
                if over or one.written == tokens:
                    running.remove(one)
                    free.append(one.number)
                    self._ll.llama_memory_seq_rm(memory, one.number, -1, -1)
                    written += one.written
                    gaps += list(np.diff(one.times))
        return {"seconds": time.perf_counter() - begun, "tokens": written, "gaps": gaps}

    def _fill(self, running: Sequence[_Sequence]) -> None:
        """A token of each answer, and as much of prompts as there is room for."""
        count = 0
        for one in running:
            one.row = -1
            if one.read == len(one.ids) and one.token is not None:
                self._put(count, one.token, one.read + one.written - 1, one.number, wanted=True)
                one.row = count
                count += 1
        for one in running:
            while one.read < len(one.ids) and count < _BATCH:
                last = one.read == len(one.ids) - 1
                self._put(count, one.ids[one.read], one.read, one.number, wanted=last)
                one.row = count if last else -1
                one.read += 1
                count += 1
        self._batch.n_tokens = count

    def _put(self, at: int, token: int, position: int, sequence: int, *, wanted: bool) -> None:
        batch = self._batch
        batch.token[at] = token
        batch.pos[at] = position
        batch.n_seq_id[at] = 1
        batch.seq_id[at][0] = sequence
        batch.logits[at] = wanted


_QUIET = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda _level, _text, _user: None)

if __name__ == "__main__":
    server = _Server()
    serve_lines({"load": server.load, "many": server.many})
