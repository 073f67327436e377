"""Places at the engine, and who gets the next one."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

__all__ = ["FairQueue", "QueueFullError"]


class QueueFullError(Exception):
    """No more may wait."""


class FairQueue:
    """So many places, and a line for each client: a free place goes to the clients in turn, first come within each.

    For one event loop.
    """

    def __init__(self, places: int, most_waiting: int) -> None:
        self._free = places
        self._most_waiting = most_waiting
        self._lines: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self._waiting = 0
        self.taken = 0
        """Places that are taken."""

    @property
    def waiting(self) -> int:
        """How many wait."""
        return self._waiting

    def check(self, count: int) -> None:
        """Raise `QueueFullError` if there is no room for so many more."""
        if count > self._free + self._most_waiting - self._waiting:
            raise QueueFullError

    @asynccontextmanager
    async def place(self, client: str) -> AsyncIterator[None]:
        """Wait for a place, and hold it. Raises `QueueFullError` if too many wait already."""
        await self._take(client)
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1
            self._give_on()

    async def _take(self, client: str) -> None:
        if self._free:
            self._free -= 1
            return
        self.check(1)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lines.setdefault(client, deque()).append(turn)
        self._waiting += 1
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._give_on()  # it came in the same moment
            else:
                self._leave(client, turn)
            raise

    def _leave(self, client: str, turn: asyncio.Future[None]) -> None:
        line = self._lines.get(client, deque())
        if turn not in line:
            return  # passed over meanwhile
        line.remove(turn)
        self._waiting -= 1
        if not line:
            del self._lines[client]

    def _give_on(self) -> None:
        while self._lines:
            client, line = self._lines.popitem(last=False)
            turn = line.popleft()
            self._waiting -= 1
            if line:
                self._lines[client] = line  # behind the others
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
