"""Whose turn it is: one pass at a time on the machine, for as many texts as it can serve.

A text that is alone runs its passes in its own thread. With others, a thread that ends by itself runs them: texts join
it and leave it between two passes (continuous batching). What a text reads, and what it finds, is the same either way.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ..inference.costs import CostModel
from ..inference.decoder import Decoder
from ..inference.outputs import Rows
from ..sessions.model_session import Breaker, ModelSession
from .batch import Batch
from .crowd_costs import CrowdCosts
from .requests import PassRequest, is_long

__all__ = ["Scheduler"]

# Texts that are at work and wait for nothing yet will in a moment: a larger batch is worth this share of a pass.
_PATIENCE = 0.15
_LEAST_PATIENCE = 0.0005
# A request that so many passes went by comes next.
_MOST_PASSED_OVER = 12
# A long pass waits for others at most so many times as long as one takes.
_WAITS = 4
# The thread ends when nobody has shared the machine for so many seconds.
_LINGER = 1.0


class Scheduler:
    """Turns of all texts of a `NudgedLM`; what `Decoder` calls `Turns`."""

    def __init__(self, most: int) -> None:
        """At `most` so many texts share a pass; with 1, none do."""
        self._most = most
        self._turn = threading.Lock()
        self._changed = threading.Condition()
        self._queue: list[PassRequest] = []
        self._at_work = 0
        self._thread: threading.Thread | None = None
        self._batches: dict[int, Batch] = {}
        self._costs: dict[int, CrowdCosts] = {}
        # Whether the last pass was one that texts share, and of which model.
        self._last = (False, 0)
        self._long: tuple[PassRequest, Breaker] | None = None
        self._long_seconds = 0.1
        self.passes = 0
        """Passes that texts shared."""
        self.shared_rows = 0
        """Rows that texts read in these."""

    # --- what decoders call

    def costs(self, model: ModelSession, least_rows: int, most_rows: int | None) -> CostModel:
        """What passes of a model cost; all of its decoders measure for one another."""
        with self._changed:
            if id(model) not in self._costs:
                crowd = self._crowd if model.batches else lambda: 1
                self._costs[id(model)] = CrowdCosts(least_rows, most_rows, crowd)
            return self._costs[id(model)]

    def take(self, decoder: Decoder, ids: list[int], rows: int) -> Rows:
        """Wait for a turn, and read `ids`: in one pass, or one by one in passes that others share, if that costs less.

        Returns the last `rows` rows. Raises what the pass raises.
        """
        if self._at_work < 2 and not is_long(len(ids)):
            with self._turn:
                return decoder.pass_alone(ids, rows)
        request = PassRequest(decoder, ids, rows, self._pays_together(decoder, len(ids)), decoder.begins)
        try:
            with self._changed:
                self._queue.append(request)
                if request.urgent and not request.is_long and self._long and not self._long[0].broken_off:
                    self._long[1].use()
                self._ensure_thread()
                self._changed.notify_all()
            return request.wait()
        except KeyboardInterrupt:
            self._withdraw(request)
            raise

    def leave(self, decoder: Decoder) -> None:
        """Move what a decoder holds out of memory that others share."""
        batch = self._batches.get(id(decoder.model))
        if batch is not None:
            batch.leave(decoder)

    # --- what answers call

    @contextmanager
    def working(self) -> Iterator[None]:
        """A text is at work: it will ask for passes, one after the other."""
        with self._changed:
            self._at_work += 1
        try:
            yield
        finally:
            with self._changed:
                self._at_work -= 1
                self._changed.notify_all()

    @property
    def at_work(self) -> int:
        """Texts that are at work now."""
        return self._at_work

    def close(self) -> None:
        """Let go of the memory that texts shared; those on their way go on."""
        self._batches = {}

    # --- the thread

    def _ensure_thread(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="nudge-onnx passes", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        while chosen := self._next():
            with self._turn:
                try:
                    self._run(chosen)
                except BaseException as error:  # nobody waits for ever
                    for request in chosen:
                        request.fail(error)

    def _next(self) -> list[PassRequest]:
        """The requests of the next pass, taken from the queue; none when the thread is to end."""
        with self._changed:
            while self._anybody_waits():
                until = time.monotonic() + self._patience()
                while 0 < len(self._queue) < self._at_work and (left := until - time.monotonic()) > 0:
                    self._changed.wait(left)
                if not self._queue:
                    continue
                chosen = self._choose()
                for request in chosen:
                    self._queue.remove(request)
                for request in self._queue:
                    request.passed_over += 1
                return chosen
            self._thread = None
            return []

    def _anybody_waits(self) -> bool:
        """Wait for a request, for a while."""
        until = time.monotonic() + _LINGER
        while not self._queue and (left := until - time.monotonic()) > 0:
            self._changed.wait(left)
        return bool(self._queue)

    def _patience(self) -> float:
        model = self._queue[0].decoder.model
        return max(_LEAST_PATIENCE, _PATIENCE * self._costs[id(model)].alone(1))

    def _choose(self) -> list[PassRequest]:
        """Of all that waits, the pass that serves most; what waited long, and passes of one text in between, first."""
        # Nobody waits for a stranger's long prompt; that gets a share of the time, or all that nobody else wants.
        long = min((request for request in self._queue if request.is_long), key=lambda one: one.since, default=None)
        short = [request for request in self._queue if not request.is_long]
        if long and (not short or time.monotonic() - long.since > _WAITS * self._long_seconds):
            return [long]
        oldest = max(short, key=lambda request: request.passed_over)
        if oldest.passed_over >= _MOST_PASSED_OVER:
            return self._with(oldest)
        single = [request for request in short if not request.together]
        shared, last = self._last
        if single and (shared or len(single) == len(short)):
            return [min(single, key=lambda request: len(request.ids) / (1 + request.passed_over))]
        # Most texts a second; a dear pass waits for more of them than a cheap one.
        groups = [self._with(request) for request in short if request.together]
        return max(groups, key=lambda group: (len(group) / self._step(group), id(group[0].decoder.model) == last))

    def _step(self, group: Sequence[PassRequest]) -> float:
        """Seconds of a pass over one row of the model that a group waits for; 1 while nothing is known."""
        return self._costs[id(group[0].decoder.model)].alone(1) or 1.0

    def _with(self, first: PassRequest) -> list[PassRequest]:
        """The requests that can share a pass with this one, those first that waited longest."""
        if not first.together:
            return [first]
        alike = [
            request
            for request in self._queue
            if request.together
            and request.decoder.model is first.decoder.model
            and request.decoder.reads_head == first.decoder.reads_head
        ]
        alike.sort(key=lambda request: (request is not first, -request.passed_over))
        return alike[: self._most]

    def _run(self, chosen: Sequence[PassRequest]) -> None:
        self._last = chosen[0].together, id(chosen[0].decoder.model)
        if not chosen[0].together:
            self._run_alone(chosen[0])
            return
        model = chosen[0].decoder.model
        try:
            if id(model) not in self._batches:
                self._batches[id(model)] = Batch(model, self._most)
            found = self._batches[id(model)].run(
                [request.decoder for request in chosen],
                [request.next_id for request in chosen],
                self._costs[id(model)].row,
            )
        except BaseException:  # whosever fault it is, each finds out by itself
            for request in chosen:
                request.run()
            return
        self.passes += 1
        self.shared_rows += len(chosen)
        for request, row in zip(chosen, found, strict=True):
            if not request.add(row):
                self._go_on(request)

    def _run_alone(self, request: PassRequest) -> None:
        if not request.is_long:
            request.run()
            return
        breaker = Breaker()
        with self._changed:
            self._long = request, breaker
        start = time.monotonic()
        ended = request.run(breaker)
        with self._changed:
            self._long = None
        if ended:
            self._long_seconds = time.monotonic() - start
        else:
            self._go_on(request)

    def _go_on(self, request: PassRequest) -> None:
        """Queue a request again that has more to read, unless nobody wants it any more."""
        try:
            request.decoder.before_pass()
        except BaseException as error:
            request.fail(error)
            return
        with self._changed:
            if request.withdrawn:
                request.fail(InterruptedError())
            else:
                request.passed_over = 0
                self._queue.append(request)

    def _withdraw(self, request: PassRequest) -> None:
        """See to it that no pass reads for a request any more."""
        with self._changed:
            request.withdrawn = True
            if request in self._queue:
                self._queue.remove(request)
                return
        request.outlive()

    def _crowd(self) -> int:
        """How many texts may share a pass."""
        return min(self._at_work, self._most)

    def _pays_together(self, decoder: Decoder, count: int) -> bool:
        """Whether `count` ids cost less one by one, each in a pass that others share, than in one pass."""
        if self._most < 2 or not decoder.can_share(count):
            return False
        if count == 1:
            return True
        costs = self._costs[id(decoder.model)]
        return count * costs.share <= costs.alone(count)
