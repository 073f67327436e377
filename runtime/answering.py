"""One answer: the caches it is written with, and what it took."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from .batching.admission import Admission
from .batching.scheduler import Scheduler
from .choosing.closing import Closing
from .inference.cache import most_bytes
from .inference.pool import CachePool, Memories
from .modes import WRITTEN, Request
from .nudging.closed import closed_in_time
from .nudging.loop import Pieces
from .nudging.results import SourceName, Timings
from .nudging.stops import cut_at_stops
from .stream import Cancellation
from .system.memory import peak_memory

__all__ = ["Answering"]

# Rows of the smallest pass at most; what it is filled up with takes positions of a context, too.
_FILLED_UP = 8


@dataclass(frozen=True)
class Answering:
    """Everything about one answer but the caches, which it takes from a pool when the first piece is asked for."""

    request: Request
    timings: Timings
    pool: CachePool
    admission: Admission
    scheduler: Scheduler
    cancellation: Cancellation = field(default_factory=Cancellation)

    def pieces(self) -> Pieces:
        """The answer, up to its first stop string."""
        pieces = self._admitted()
        options = self.request.options
        if options.grammar is not None and options.grammar.is_json:
            source: SourceName = "nudge" if options.mode == "nudge" else "base"
            encode = self.request.tokenizers[source].encode_inside
            pieces = closed_in_time(pieces, Closing(options.grammar), self._sure_tokens(), source, encode)
        stops = options.stops
        if not stops:
            return pieces
        return cut_at_stops(pieces, stops, lambda piece, token: self.request.tokenizers[piece.source].bytes_of(token))

    def _sure_tokens(self) -> int:
        """As many tokens as were asked for, or as surely fit the contexts."""
        request = self.request
        models = request.manifest.models
        room = min(models[role].context_length - len(prompt.ids) for role, prompt in request.prompts.items())
        if len(request.prompts) > 1 and not request.manifest.shared_vocabulary:
            room = room * 3 // 4  # what one model writes the other may spell in more tokens
        return max(1, min(request.options.max_new_tokens, room - _FILLED_UP))

    def _admitted(self) -> Pieces:
        """Written once there is room for its caches."""
        request = self.request
        models, most = request.manifest.models, request.options.max_new_tokens
        nbytes = sum(most_bytes(models[role], len(prompt.ids) + most) for role, prompt in request.prompts.items())
        with self.admission.admitted(nbytes, self.cancellation.check):
            return (yield from self._lent(nbytes))

    def _lent(self, nbytes: int) -> Pieces:
        """Written with caches of a pool, which get back to it however the answer ends; they may take `nbytes`."""
        memories = self.pool.acquire({role: prompt.ids for role, prompt in self.request.prompts.items()}, nbytes)
        try:
            for memory in memories.values():
                memory.decoder.before_pass = self.cancellation.check
            return (yield from self._timed(memories))
        finally:
            self.pool.release(memories)

    def _timed(self, memories: Memories) -> Pieces:
        """Prefill, write, and keep count."""
        timings = self.timings
        before = {role: (memories[role].decoder.fed, memories[role].decoder.passes) for role in self.request.prompts}

        def count() -> None:
            for role, (fed, passes) in before.items():
                timings.fed[role] = memories[role].decoder.fed - fed
                timings.passes[role] = memories[role].decoder.passes - passes

        start = time.perf_counter()
        try:
            pieces = WRITTEN[self.request.options.mode](self.request, memories)
            with self.scheduler.working():
                for role, prompt in self.request.prompts.items():
                    memories[role].prefill(prompt.ids, prompt.blocks)
            timings.prefill = time.perf_counter() - start
            start = time.perf_counter()
            while True:
                try:
                    with self.scheduler.working():
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
