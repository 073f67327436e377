"""How probable a model finds a text that is there already."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from .batching.admission import Admission
from .batching.scheduler import Scheduler
from .inference.outputs import Logits
from .inference.pool import CachePool
from .inference.remembered_rows import RememberedRows
from .stream import Cancellation

__all__ = ["Scoring"]

# A row of logits of a large vocabulary takes a megabyte.
_ROWS = 64


Row = TypeVar("Row")


@dataclass(frozen=True)
class Scoring(Generic[Row]):
    """One text that a model reads; like an answer it waits for a place, and takes its caches from a pool."""

    role: str
    ids: Sequence[int]
    row: Callable[[Logits, int], Row]
    """What is said of a position, from its raw logits and the id that comes next."""
    pool: CachePool
    admission: Admission
    scheduler: Scheduler
    cancellation: Cancellation = field(default_factory=Cancellation)

    def rows(self, nbytes: int) -> list[Row | None]:
        """What `row` says of each id behind those before it, nothing of the first; caches may take `nbytes`.

        Raises `LogitsError` for broken logits, and what a cancellation raises.
        """
        with self.admission.admitted(nbytes, self.cancellation.check):
            memories = self.pool.acquire({self.role: self.ids}, nbytes)
            try:
                memory = memories[self.role]
                memory.decoder.before_pass = self.cancellation.check
                with self.scheduler.working():
                    return [None, *self._read(memory)]
            finally:
                self.pool.release(memories)

    def _read(self, memory: RememberedRows[Row]) -> list[Row]:
        def choose(logits: Logits, _ids: Sequence[int], end: int) -> Row:
            return self.row(logits, self.ids[min(end, len(self.ids) - 1)])

        memory.decoder.rewind(0)  # of what is in the cache no rows are known
        memory.start(choose)
        ahead = _ROWS - 1 if memory.decoder.reads_ahead else 0
        return [memory.next(self.ids[:end], self.ids[end : end + ahead]) for end in range(1, len(self.ids))]
