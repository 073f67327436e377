"""One answer: who takes part in it, with which caches, and what it took."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from nudge_onnx.bundle import Manifest

from .choosing.choosers import Chooser, HeadChooser
from .choosing.gates import top1
from .inference.pool import CachePool, Memories
from .nudging.baselines import alone, ensemble, mixed, proxy_tuning
from .nudging.draft import token_hand_overs, word_hand_overs
from .nudging.loop import NudgingLoop, Pieces
from .nudging.ngram import NGramGuesser
from .nudging.participant import IdParticipant, Participant
from .nudging.results import Timings
from .nudging.speculation import Speculation
from .nudging.stops import cut_at_stops
from .nudging.transcript import Transcript
from .options import AnswerOptions
from .stream import Cancellation
from .system.memory import peak_memory
from .text.prompt import PromptIds
from .text.tokenizer import Tokenizer

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
        memories = pool.acquire({role: prompt.ids for role, prompt in self.prompts.items()})
        try:
            for memory in memories.values():
                memory.decoder.before_pass = self.cancellation.check
            return (yield from self._timed(memories))
        finally:
            pool.release(memories)

    def _timed(self, memories: Memories) -> Pieces:
        """Prefill, write, and keep count."""
        timings = self.timings
        before = {role: (memories[role].decoder.fed, memories[role].decoder.passes) for role in self.prompts}

        def count() -> None:
            for role, (fed, passes) in before.items():
                timings.fed[role] = memories[role].decoder.fed - fed
                timings.passes[role] = memories[role].decoder.passes - passes

        start = time.perf_counter()
        try:
            pieces = self._written(memories)
            for role, prompt in self.prompts.items():
                memories[role].prefill(prompt.ids, prompt.blocks)
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

    def _written(self, memories: Memories) -> Pieces:
        """As whoever takes part writes it, once the prompts are in the caches."""
        options, prompts = self.options, self.prompts
        answer = Transcript(options.max_new_tokens)
        if options.mode in ("ensemble", "proxy-tuning"):
            for role in prompts:
                memories[role].start(lambda logits, ids, end: logits.copy())
            mix = ensemble if options.mode == "ensemble" else proxy_tuning
            ends = self._ends("base") | self._ends("nudge")
            bytes_of = self.tokenizers["base"].bytes_of
            return mixed([(memories[role], prompts[role]) for role in prompts], mix, ends, bytes_of, answer)
        participants = {role: self._participant(role, memories) for role in prompts}
        if options.mode != "nudged":
            return alone(participants[options.mode], "base" if options.mode == "base" else "nudge", answer)
        # Two vocabularies share no noise: sampled drafts would almost never be what the base model draws.
        drafts = self.manifest.shared_vocabulary or all(one.greedy for one in options.sampling.values())
        base, nudge = participants["base"], participants["nudge"]
        ahead = Speculation(options.speculation if base.reads_ahead else "off", base.costs, nudge.costs, drafts)
        if options.speculation != "off" and nudge.reads_ahead:
            nudge.guess_with(NGramGuesser(nudge.costs))
        cuts = token_hand_overs if options.policy == "token" else word_hand_overs
        return NudgingLoop(base, nudge, answer, cuts, options.draft_tokens, ahead).run()

    def _participant(self, role: str, memories: Memories) -> Participant:
        options, memory, prompt = self.options, memories[role], self.prompts[role]
        sampling = options.sampling[role]
        if options.gate is top1 and sampling.greedy and memory.decoder.has_head:
            memory.start_with_head(HeadChooser(role, options.gamma))
        else:
            memory.start(Chooser(role, sampling, options.gate, options.gamma, len(prompt.ids)))
        kind = IdParticipant if options.policy == "token" else Participant
        return kind(memory, prompt, self.tokenizers[role], self._ends(role))

    def _ends(self, role: str) -> frozenset[int]:
        return frozenset(self.manifest.models[role].end_token_ids)
