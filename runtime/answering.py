"""One answer: who takes part in it, with which caches, and what it took."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from nudge_onnx.bundle import Manifest

from .baselines import alone, ensemble, mixed, proxy_tuning
from .draft import token_cuts, word_cuts
from .gates import top1
from .loop import NudgingLoop, Pieces
from .memory import peak_memory
from .options import AnswerOptions
from .pool import CachePool, Readers
from .prompt import PromptIds
from .reader import Chooser, HeadChooser
from .results import Timings
from .speculation import Habit, Speculation
from .stops import cut_at_stops
from .stream import Cancellation
from .text import Transcript
from .tokenizer import Tokenizer
from .writer import IdWriter, Writer

__all__ = ["Answering"]


@dataclass(frozen=True)
class Answering:
    """Everything about one answer but the caches, which it takes from a pool when the first piece is asked for."""

    manifest: Manifest
    options: AnswerOptions
    prompts: Mapping[str, PromptIds]
    tokenizers: Mapping[str, Tokenizer]
    timings: Timings
    cancellation: Cancellation = field(default_factory=Cancellation)

    def pieces(self, pool: CachePool) -> Pieces:
        """The answer, up to its first stop string."""
        pieces = self._lent(pool)
        stops = self.options.stops
        if not stops:
            return pieces
        return cut_at_stops(pieces, stops, lambda piece, token: self.tokenizers[piece.source].bytes_of(token))

    def _lent(self, pool: CachePool) -> Pieces:
        """Written with caches of a pool, which get back to it however the answer ends."""
        readers = pool.acquire({role: prompt.ids for role, prompt in self.prompts.items()})
        try:
            for reader in readers.values():
                reader.decoder.before_pass = self.cancellation.check
            return (yield from self._timed(readers))
        finally:
            pool.release(readers)

    def _timed(self, readers: Readers) -> Pieces:
        """Prefill, write, and keep count."""
        timings = self.timings
        before = {role: (readers[role].decoder.fed, readers[role].decoder.passes) for role in self.prompts}

        def count() -> None:
            for role, (fed, passes) in before.items():
                timings.fed[role] = readers[role].decoder.fed - fed
                timings.passes[role] = readers[role].decoder.passes - passes

        start = time.perf_counter()
        try:
            pieces = self._written(readers)
            for role, prompt in self.prompts.items():
                readers[role].prefill(prompt.ids, prompt.blocks)
            timings.prefill = time.perf_counter() - start
            start = time.perf_counter()
            while True:
                try:
                    piece = next(pieces)
                except StopIteration as end:
                    return end.value  # type: ignore[no-any-return]
                finally:
                    # Time that the caller spends with a piece is not ours.
                    timings.decode += time.perf_counter() - start
                    count()
                yield piece
                start = time.perf_counter()
        finally:
            count()
            timings.peak_memory = peak_memory()

    def _written(self, readers: Readers) -> Pieces:
        """As whoever takes part writes it, once the prompts are in the caches."""
        options, prompts = self.options, self.prompts
        answer = Transcript(options.max_new_tokens)
        if options.mode in ("ensemble", "proxy-tuning"):
            for role in prompts:
                readers[role].start(lambda logits, ids, end: logits.copy())
            mix = ensemble if options.mode == "ensemble" else proxy_tuning
            ends = self._ends("base") | self._ends("nudge")
            bytes_of = self.tokenizers["base"].bytes_of
            return mixed([(readers[role], prompts[role]) for role in prompts], mix, ends, bytes_of, answer)
        writers = {role: self._writer(role, readers) for role in prompts}
        if options.mode != "nudged":
            return alone(writers[options.mode], "base" if options.mode == "base" else "nudge", answer)
        # Two vocabularies share no noise: sampled drafts would almost never be what the base model draws.
        drafts = self.manifest.shared_vocabulary or all(one.greedy for one in options.sampling.values())
        base, nudge = writers["base"], writers["nudge"]
        ahead = Speculation(options.speculation if base.reads_ahead else "off", base.costs, nudge.costs, drafts)
        if options.speculation != "off" and nudge.reads_ahead:
            nudge.guess_from(Habit(nudge.costs))
        cuts = token_cuts if options.policy == "token" else word_cuts
        return NudgingLoop(base, nudge, answer, cuts, options.draft_tokens, ahead).run()

    def _writer(self, role: str, readers: Readers) -> Writer:
        options, reader, prompt = self.options, readers[role], self.prompts[role]
        sampling = options.sampling[role]
        if options.gate is top1 and sampling.greedy and reader.decoder.has_head:
            reader.start_with_head(HeadChooser(role, options.gamma))
        else:
            reader.start(Chooser(role, sampling, options.gate, options.gamma, len(prompt.ids)))
        kind = IdWriter if options.policy == "token" else Writer
        return kind(reader, prompt, self.tokenizers[role], self._ends(role))

    def _ends(self, role: str) -> frozenset[int]:
        return frozenset(self.manifest.models[role].end_token_ids)
