"""One process at a time: a lock that the operating system takes back when its holder dies."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = ["locked"]


@contextlib.contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Hold the lock file `path`, which is there while it is held; wait for whoever holds it.

    Says whether it is held: some network disks have no locks. Raises `OSError` if the file cannot be made.
    """
    handle, held = _acquire(path)
    try:
        yield held
    finally:
        # While it is held, so that no one is left waiting for a file without a name. Windows keeps an open file.
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(handle)


def _acquire(path: Path) -> tuple[int, bool]:
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            held = _lock(handle)
            if not held or _is(path, handle):
                return handle, held
        except BaseException:
            os.close(handle)
            raise
        # Its last holder removed it: the file that now has the name is the lock.
        os.close(handle)


def _is(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


if sys.platform == "win32":
    import msvcrt

    def _lock(handle: int) -> bool:
        while True:
            try:
                msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
            except PermissionError:  # another process holds it
                time.sleep(0.1)
            except OSError:
                return False
            else:
                return True

else:
    import fcntl

    def _lock(handle: int) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError:
            return False
        return True
