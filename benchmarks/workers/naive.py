"""Whole answers by nudging written on genai or transformers: two models in one process, each with one cache."""

from __future__ import annotations

import importlib
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.workers.engine import Engine, Opening
from benchmarks.workers.naive_loop import Voice, nudged
from benchmarks.workers.serve import memory, serve_lines


class _Reading:
    """Logits after any ids, from an engine that reads on where it can."""

    def __init__(self, engine: Engine, rewinds: bool) -> None:
        self.engine = engine
        self._rewinds = rewinds
        self._held: list[int] = []

    def forget(self) -> None:
        self.engine.clear()
        self._held = []

    def after(self, ids: Sequence[int]) -> Any:
        shared = 0
        while shared < min(len(ids) - 1, len(self._held)) and ids[shared] == self._held[shared]:
            shared += 1
        if shared < len(self._held):
            if self._rewinds:
                self.engine.rewind(shared)
            else:
                self.engine.clear()
                shared = 0
        logits = self.engine.extend(ids[shared:])
        self._held = list(ids)
        return logits


class _Server:
    def load(
        self, engine_name: str, rewinds: bool, threads: int, context: int, models: dict[str, dict[str, Any]]
    ) -> None:
        """Open both models; with `rewinds`, a hand-over keeps what the cache shares with the new ids."""
        from tokenizers import Tokenizer

        open_engine = importlib.import_module(f".{engine_name}", __package__).import_engine()
        self._models = models
        self._tokenizers = {role: Tokenizer.from_file(model["tokenizer"]) for role, model in models.items()}
        self._readings = {
            role: _Reading(open_engine(Opening(model["path"], role, threads, context)), rewinds)
            for role, model in models.items()
        }

    def answer(self, prompts: dict[str, str], tokens: int, mode: str, gamma: float) -> dict[str, Any]:
        """An answer of about so many tokens, and the seconds that its prompts and its tokens took."""
        if mode != "nudged":
            return self._alone(mode, prompts[mode], tokens)
        voices = {role: self._voice(role, prompts[role]) for role in ("base", "nudge")}
        begun = time.perf_counter()
        for role, voice in voices.items():
            self._readings[role].forget()
            voice.after(voice.ids(""))
        read = time.perf_counter()
        text, count, nudging = nudged(voices["base"], voices["nudge"], gamma, tokens)
        return _timed(text, count, read - begun, time.perf_counter() - read, nudging)

    def _alone(self, role: str, prompt: str, tokens: int) -> dict[str, Any]:
        """One model in its engine's own loop, which does not stop at an end token."""
        voice, engine = self._voice(role, prompt), self._readings[role].engine
        ids = voice.ids("")
        begun = time.perf_counter()
        first = engine.prefill(ids)
        read = time.perf_counter()
        written = [first, *engine.decode(first, tokens - 1)]
        return _timed(voice.spell(written), tokens, read - begun, time.perf_counter() - read, 0)

    def _voice(self, role: str, prompt: str) -> Voice:
        model = self._models[role]
        return Voice(
            self._readings[role].after, self._tokenizers[role], prompt, model["add_bos"], frozenset(model["ends"])
        )


def _timed(text: str, tokens: int, prefill: float, decode: float, nudging: int) -> dict[str, Any]:
    ratio = nudging / tokens if tokens else 0.0
    return {"text": text, "tokens": tokens, "prefill_s": prefill, "decode_s": decode, "nudging_ratio": ratio}


if __name__ == "__main__":
    server = _Server()
    serve_lines({"load": server.load, "answer": server.answer, "memory": memory})
