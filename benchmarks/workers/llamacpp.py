"""llama.cpp, through its C interface: the GGUF that everything here was made of."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.workers.engine import Engine, Opening
from benchmarks.workers.serve import serve
from benchmarks.workers.stepping import Stepping

_BATCH = 512


class LlamaCpp(Stepping):
    """A model, a context, and one batch that is filled again and again."""

    def __init__(self, opening: Opening) -> None:
        import llama_cpp as ll

        self._ll = ll
        ll.llama_log_set(_QUIET, ctypes.c_void_p(0))
        ll.llama_backend_init()
        self._model = ll.llama_model_load_from_file(opening.model.encode(), ll.llama_model_default_params())
        options = ll.llama_context_default_params()
        options.n_ctx = opening.context
        options.n_batch = options.n_ubatch = _BATCH
        options.n_threads = options.n_threads_batch = opening.threads
        # As its own programs do: layers with a window keep no more than the window.
        options.swa_full = False
        options.no_perf = True
        self._context = ll.llama_init_from_model(self._model, options)
        self._vocabulary = ll.llama_vocab_n_tokens(ll.llama_model_get_vocab(self._model))
        self._batch = ll.llama_batch_init(_BATCH, 0, 1)
        self._length = 0

    def clear(self) -> None:
        self._ll.llama_memory_clear(self._ll.llama_get_memory(self._context), False)
        self._length = 0

    def extend(self, ids: Sequence[int], every: bool = False) -> npt.NDArray[Any]:
        parts = [ids[start : start + _BATCH] for start in range(0, len(ids), _BATCH)]
        rows = []
        for number, part in enumerate(parts, start=1):
            self._run(part, every, last=number == len(parts))
            if every:
                # A view that the next part would overwrite.
                rows.append(self._rows(len(part)) if len(parts) == 1 else self._rows(len(part)).copy())
        return np.concatenate(rows) if len(rows) > 1 else rows[0] if every else self._rows(1)[0]

    def rewind(self, length: int) -> None:
        memory = self._ll.llama_get_memory(self._context)
        assert self._ll.llama_memory_seq_rm(memory, 0, length, -1), "llama.cpp cannot rewind this cache"
        self._length = length

    def _run(self, ids: Sequence[int], every: bool, last: bool) -> None:
        batch = self._batch
        batch.n_tokens = len(ids)
        for i, token in enumerate(ids):
            batch.token[i] = token
            batch.pos[i] = self._length + i
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = 0
            batch.logits[i] = every or (last and i == len(ids) - 1)
        code = self._ll.llama_decode(self._context, batch)
        assert code == 0, f"llama_decode returned {code}"
        self._length += len(ids)

    def _rows(self, count: int) -> npt.NDArray[np.float32]:
        return np.ctypeslib.as_array(self._ll.llama_get_logits(self._context), shape=(count, self._vocabulary))


_QUIET = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda _level, _text, _user: None)


def import_engine() -> Callable[[Opening], Engine]:
    """Import the bindings."""
    import llama_cpp  # noqa: F401

    return LlamaCpp


if __name__ == "__main__":
    serve(import_engine)
