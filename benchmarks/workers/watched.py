"""Where the time of nudged answers goes: a stopwatch around each part, which stops for the others."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from benchmarks.workers.serve import serve_lines


class Stopwatch:
    """Exclusive seconds by part: while one watched function calls another, only the inner one's clock runs."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.calls: dict[str, int] = defaultdict(int)
        self._stack: list[str] = []
        self._since = 0.0

    def watch(self, owner: Any, name: str, part: str) -> None:
        """Time the calls of a method of an object under the name of a part."""
        setattr(owner, name, self.timed(getattr(owner, name), part))

    def timed(self, call: Callable[..., Any], part: str) -> Callable[..., Any]:
        """The call, timed under the name of a part."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            self.enter(part)
            try:
                return call(*args, **kwargs)
            finally:
                self.leave()

        return timed

    def enter(self, part: str) -> None:
        """Start a part; the one around it pauses."""
        self._switch()
        self._stack.append(part)
        self.calls[part] += 1

    def leave(self) -> None:
        """End the part; the one around it goes on."""
        self._switch()
        self._stack.pop()

    def _switch(self) -> None:
        now = time.perf_counter()
        if self._stack:
            self.seconds[self._stack[-1]] += now - self._since
        self._since = now


def _sessions(watch: Stopwatch) -> Any:
    """Makes sessions whose passes are timed."""
    from nudge_onnx.runtime.sessions.creation import create_session

    def create(*arguments: Any) -> Any:
        session = create_session(*arguments)
        watch.watch(session, "run_with_iobinding", "session")
        return session

    return create


def _watched_sessions(bundle: str, watch: Stopwatch) -> Any:
    from nudge_onnx import Bundle, NudgedLM
    from nudge_onnx.runtime.loading import open_models

    opened = Bundle.open(bundle)
    return NudgedLM(opened, *open_models(opened, create=_sessions(watch)), cache_mib=0)


def _watched(bundle: str, watch: Stopwatch) -> Any:
    from nudge_onnx import Bundle, NudgedLM
    from nudge_onnx.runtime.inference.decoder import Decoder
    from nudge_onnx.runtime.inference.remembered_rows import RememberedRows
    from nudge_onnx.runtime.loading import open_models

    class Rows(RememberedRows[Any]):
        def start(self, choose: Any) -> None:
            super().start(watch.timed(choose, "gate and argmax"))

        def start_with_head(self, choose: Any) -> None:
            super().start_with_head(watch.timed(choose, "gate and argmax"))

    class LM(NudgedLM):
        def prompt(self, *arguments: Any) -> Any:
            ids = super().prompt(*arguments)
            for name in ("encode", "settle"):
                watch.watch(ids, name, "tokenizer")
            return ids

    def memory(model: Any, turns: Any) -> Any:
        decoder = Decoder(model, turns)
        for name in ("feed", "prefill", "rewind"):
            watch.watch(decoder, name, "binding")
        return Rows(decoder)

    opened = Bundle.open(bundle)
    models, tokenizers = open_models(opened, create=_sessions(watch))
    for tokenizer in tokenizers.values():
        for name in ("encode", "encode_prompt", "bytes_of"):
            watch.watch(tokenizer, name, "tokenizer")
    return LM(opened, models, tokenizers, cache_mib=0, memory=memory)


class _Server:
    def __init__(self) -> None:
        self._watch = Stopwatch()
        self._lm: Any = None
        self._expected: set[str] = set()

    def load(self, bundle: str, parts: bool) -> None:
        """Open a bundle, with a stopwatch around its sessions, and around the other `parts` of a step."""
        self._lm = _watched(bundle, self._watch) if parts else _watched_sessions(bundle, self._watch)
        self._expected = {"session", "binding"} if parts else {"session"}

    def answer(self, prompt: str, tokens: int, **options: Any) -> dict[str, Any]:
        """Seconds by part of everything behind the prompt of an answer, and its tokens and passes."""
        watch, stream = self._watch, self._lm.stream(prompt, max_new_tokens=tokens, **options)
        first = next(stream)  # reads the prompts, and with them the first draft
        watch.seconds.clear()
        watch.calls.clear()
        passes = sum(stream.answer.timings.passes.values())
        watch.enter("loop")
        for _ in stream:
            pass
        watch.leave()
        answer = stream.answer
        assert self._expected <= set(watch.calls), "the runtime no longer runs what is watched"
        return {
            "seconds": dict(watch.seconds),
            "tokens": sum(answer.tokens.values()) - len(first.token_ids),
            "passes": sum(answer.timings.passes.values()) - passes,
        }


if __name__ == "__main__":
    server = _Server()
    serve_lines({"load": server.load, "answer": server.answer})
