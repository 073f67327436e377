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

BATCH = 512
"""Most tokens of a pass."""


class Opened:
    """A model, a context for the positions of some sequences, and one batch that is filled again and again."""

    def __init__(self, path: str, threads: int, positions: int, sequences: int = 1) -> None:
        import llama_cpp as ll

        self.ll = ll
        ll.llama_log_set(_QUIET, ctypes.c_void_p(0))
        ll.llama_backend_init()
        self.model = ll.llama_model_load_from_file(path.encode(), ll.llama_model_default_params())
        options = ll.llama_context_default_params()
        options.n_ctx = positions
        options.n_seq_max = sequences
        options.n_batch = options.n_ubatch = BATCH
        options.n_threads = options.n_threads_batch = threads
        # As its own programs do: layers with a window keep no more than the window.
        options.swa_full = False
        options.no_perf = True
        self.context = ll.llama_init_from_model(self.model, options)
        self.vocabulary: int = ll.llama_vocab_n_tokens(ll.llama_model_get_vocab(self.model))
        self.batch = ll.llama_batch_init(BATCH, 0, 1)

    def put(self, at: int, token: int, position: int, sequence: int, *, wanted: bool) -> None:
        """Fill one place of the batch; logits behind it are computed if they are `wanted`."""
        batch = self.batch
        batch.token[at] = token
        batch.pos[at] = position
        batch.n_seq_id[at] = 1
        batch.seq_id[at][0] = sequence
        batch.logits[at] = wanted

    def run(self, count: int) -> None:
        """A pass over the first `count` places of the batch."""
        self.batch.n_tokens = count
        code = self.ll.llama_decode(self.context, self.batch)
        assert code == 0, f"llama_decode returned {code}"


class LlamaCpp(Stepping):
    """One text."""

    def __init__(self, opening: Opening) -> None:
        self._opened = Opened(opening.model, opening.threads, opening.context)
        self._ll, self._context = self._opened.ll, self._opened.context
        self._length = 0

    def clear(self) -> None:
        self._ll.llama_memory_clear(self._ll.llama_get_memory(self._context), False)
        self._length = 0

    def extend(self, ids: Sequence[int], every: bool = False) -> npt.NDArray[Any]:
        parts = [ids[start : start + BATCH] for start in range(0, len(ids), BATCH)]
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
        for i, token in enumerate(ids):
            self._opened.put(i, token, self._length + i, 0, wanted=every or (last and i == len(ids) - 1))
        self._opened.run(len(ids))
        self._length += len(ids)

    def _rows(self, count: int) -> npt.NDArray[np.float32]:
        return np.ctypeslib.as_array(self._ll.llama_get_logits(self._context), shape=(count, self._opened.vocabulary))


_QUIET = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda _level, _text, _user: None)


def import_engine() -> Callable[[Opening], Engine]:
    """Import the bindings."""
    import llama_cpp  # noqa: F401

    return LlamaCpp


if __name__ == "__main__":
    serve(import_engine)
