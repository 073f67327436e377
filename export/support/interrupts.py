"""Ctrl-C, SIGTERM and SIGHUP end an export in order, whichever library is at work when they come."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

__all__ = ["heeded", "raise_if_interrupted"]

_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
_seen: list[int] = []


@contextlib.contextmanager
def heeded() -> Iterator[None]:
    """Inside, a signal raises: `KeyboardInterrupt` for Ctrl-C, `SystemExit` for the others, so that `finally` runs.

    A signal that is ignored, as Ctrl-C is in what a shell runs in the background, stays ignored. What the block
    raises instead of a signal's exception is replaced by it.
    """
    _seen.clear()
    # `None` is a handler that is not Python's; it is left where it is.
    before = {
        number: handler for number in _SIGNALS if (handler := signal.getsignal(number)) not in (None, signal.SIG_IGN)
    }
    for number in before:
        signal.signal(number, _note)
    try:
        yield
    except Exception:
        # A library may make another error of it.
        raise_if_interrupted()
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def raise_if_interrupted() -> None:
    """Raise for a signal that came before: an import, a callback or a `__del__` may have swallowed its exception."""
    if _seen:
        _raise(_seen[-1])


def _note(number: int, _frame: FrameType | None) -> None:
    _seen.append(number)
    _raise(number)


def _raise(number: int) -> None:
    raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)
