"""Other libraries' exceptions as one line."""

from __future__ import annotations

import errno

__all__ = ["is_full_disk", "one_line", "reraise_full_disk"]


def one_line(error: BaseException) -> str:
    """The first line of an exception's message, or its type where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def is_full_disk(error: BaseException) -> bool:
    """Whether a write failed for lack of space; native code says so in words only."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return "no space left on device" in str(error).lower()


def reraise_full_disk(error: BaseException) -> None:
    """Raise an `OSError` with ENOSPC if that is what `error` means."""
    if is_full_disk(error):
        raise OSError(errno.ENOSPC, "No space left on device") from error
