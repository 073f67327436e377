"""Where the time of nudged answers goes: a stopwatch around each part, which stops for the others."""

from __future__ import annotations

import functools
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
        """Time the calls of a method under the name of a part."""
        original: Callable[..., Any] = getattr(owner, name)

        @functools.wraps(original)
        def timed(*args: Any, **kwargs: Any) -> Any:
            self.enter(part)
            try:
                return original(*args, **kwargs)
            finally:
                self.leave()

        setattr(owner, name, timed)

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


class _Server:
    def __init__(self) -> None:
        self._watch = Stopwatch()
        self._lm: Any = None
        self._expected: set[str] = set()

    def load(self, bundle: str, parts: bool) -> None:
        """Open a bundle, with a stopwatch around its sessions, and around the other `parts` of a step."""
        import onnxruntime as ort

        from nudge_onnx import NudgedLM
        from nudge_onnx.runtime.choosing.choosers import Chooser, HeadChooser
        from nudge_onnx.runtime.inference.decoder import Decoder
        from nudge_onnx.runtime.text.prompt import PromptIds
        from nudge_onnx.runtime.text.tokenizer import Tokenizer

        self._lm = NudgedLM.load(bundle, cache_mib=0)
        watch = self._watch
        for name in ("run", "run_with_iobinding", "run_with_ort_values"):
            watch.watch(ort.InferenceSession, name, "session")
        self._expected = {"session", "binding"} if parts else {"session"}
        if not parts:
            return
        for name in ("feed", "prefill", "rewind"):
            watch.watch(Decoder, name, "binding")
        for chooser in (Chooser, HeadChooser):
            watch.watch(chooser, "__call__", "gate and argmax")
        for name in ("encode", "encode_prompt", "bytes_of"):
            watch.watch(Tokenizer, name, "tokenizer")
        for name in ("encode", "settle"):
            watch.watch(PromptIds, name, "tokenizer")

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
