"""The protocol: one JSON object a line on stdin, one on stdout, and whatever the engine prints goes to stderr."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from benchmarks.workers.engine import Engine, Opening

Handler = Callable[..., Any]


def serve_lines(handlers: Mapping[str, Handler]) -> None:
    """Answer `{"op": name, ...}` with what the handler of that name returns, until stdin closes."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries that greet on stdout would break the protocol
    _answer(sys.stdin, replies, handlers)


def _answer(requests: Iterable[str], replies: TextIO, handlers: Mapping[str, Handler]) -> None:
    for line in requests:
        request = json.loads(line)
        result = handlers[request.pop("op")](**request)
        replies.write(json.dumps(result) + "\n")
        replies.flush()


def memory() -> dict[str, int]:
    """Bytes of this process: the most that was ever resident, and what is now, of its own and of mapped files."""
    with Path("/proc/self/status").open() as stream:
        status = dict(line.split(":", 1) for line in stream if ":" in line)
    names = {"peak": "VmHWM", "now": "VmRSS", "own": "RssAnon", "files": "RssFile"}
    return {key: int(status[name].split()[0]) * 1024 for key, name in names.items()}


def serve(import_engine: Callable[[], Callable[[Opening], Engine]]) -> None:
    """Serve an engine; `import_engine` imports the library and returns what opens a model."""
    serve_lines(_Server(import_engine).handlers())


class _Server:
    def __init__(self, import_engine: Callable[[], Callable[[Opening], Engine]]) -> None:
        self._import_engine = import_engine
        self._engine: Engine | None = None

    def handlers(self) -> dict[str, Handler]:
        return {
            "load": self.load,
            "prefill": self.prefill,
            "decode": self.decode,
            "rows": self.rows,
            "logits": self.logits,
            "memory": memory,
        }

    @property
    def engine(self) -> Engine:
        assert self._engine is not None, "load comes first"
        return self._engine

    def load(self, **opening: Any) -> dict[str, float]:
        """Import the library and open the model, timed apart."""
        begun = time.perf_counter()
        open_engine = self._import_engine()
        imported = time.perf_counter()
        self._engine = open_engine(Opening(**opening))
        return {"import_s": imported - begun, "load_s": time.perf_counter() - imported}

    def prefill(self, ids: list[int]) -> dict[str, float]:
        """Seconds until the token after `ids` is known, on an empty cache."""
        begun = time.perf_counter()
        self.engine.prefill(ids)
        return {"seconds": time.perf_counter() - begun}

    def decode(self, ids: list[int], count: int, chunk: int | None = None) -> dict[str, Any]:
        """Seconds of `count` single steps behind `ids`, which are read at once or in chunks."""
        if chunk is None:
            token = self.engine.prefill(ids)
        else:
            self.engine.clear()
            parts = [ids[start : start + chunk] for start in range(0, len(ids), chunk)]
            for part in parts[:-1]:
                self.engine.extend(part)
            token = self.engine.choose(parts[-1])
        begun = time.perf_counter()
        tokens = self.engine.decode(token, count)
        seconds = time.perf_counter() - begun
        assert len(tokens) == count, f"{len(tokens)} tokens instead of {count}"
        return {"seconds": seconds, "tokens": [token, *tokens]}

    def rows(self, ids: list[int], filled: int, counts: list[int], repeats: int) -> dict[str, list[float]]:
        """Seconds of passes of so many rows, with logits for each, on a cache of `filled` positions."""
        engine = self.engine
        engine.clear()
        engine.extend(ids[:filled])
        seconds: dict[str, list[float]] = {str(count): [] for count in counts}
        for _ in range(repeats):
            for count in counts:
                begun = time.perf_counter()
                engine.extend(ids[filled : filled + count], every=True)
                seconds[str(count)].append(time.perf_counter() - begun)
                engine.rewind(filled)
        return seconds

    def logits(self, ids: list[int], path: str) -> dict[str, float]:
        """Write the logits after each id, float32 `[len(ids), vocabulary]`, to a file of NumPy's format."""
        self.engine.clear()
        np.save(path, np.asarray(self.engine.extend(ids, every=True), np.float32))
        return {}
