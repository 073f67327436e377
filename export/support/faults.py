"""Other libraries' exceptions as one line."""

from __future__ import annotations

import errno
from pathlib import Path

__all__ = ["full_disk", "is_full_disk", "one_line", "reraise_full_disk"]


def one_line(error: BaseException) -> str:
    """The first line of an exception's message, or its type where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def is_full_disk(error: BaseException) -> bool:
    """Whether a write failed for lack of space; native code says so in words only."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return "no space left on device" in str(error).lower()


def full_disk(folder: Path | str | None = None) -> OSError:
    """The error of a full disk, with the folder on it where that is known."""
    return OSError(errno.ENOSPC, "No space left on device", *([] if folder is None else [str(folder)]))


def reraise_full_disk(error: BaseException) -> None:
    """Raise an `OSError` with ENOSPC if that is what `error` means."""
    if is_full_disk(error):
        raise full_disk() from error
