"""Downloads a checkpoint from the hub."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from nudge_onnx.errors import SourceError

from ..support.faults import full_disk, is_full_disk, one_line

__all__ = ["download"]

_TEXTS = ["*.json", "*.jinja", "*.model", "*.txt", "README.md"]
# Subfolders hold other formats; "consolidated" files repeat the weights in a vendor's own layout.
_IGNORED = ["*/*", "consolidated*"]

_TRIES = 4
_PAUSE = 3.0
"""Seconds before the second try, doubled before each one after it."""
_SILENCE = 30.0
"""Seconds after which a hub that says nothing is given up: the library by itself waits for ever."""
_PASSING = (408, 425, 429, 500, 502, 503, 504)
"""States of a hub that may be over soon."""


def download(
    name: str,
    revision: str | None,
    *,
    only: Sequence[str] = (),
    trust_remote_code: bool = False,
    note: Callable[[str], None] | None = None,
) -> tuple[Path, str | None]:
    """The folder of a hub checkpoint in the hub's own cache, and the commit it is of; of some files if `only` says so.

    Weights are taken as safetensors, or as PyTorch files where there are no others. What may be over soon, such as a
    connection that is cut, is tried again a few times, each said by `note`. Raises `SourceError`, one line, for an id
    that does not exist, is private or gated, where neither network nor cache has it, and where the hub stays out of
    order; and `OSError` with the cache's name if its disk is full.
    """
    from huggingface_hub import configure_http_backend
    from huggingface_hub.utils import disable_progress_bars

    configure_http_backend(_session)
    if not sys.stderr.isatty():
        disable_progress_bars()
    texts = [*_TEXTS, "*.py"] if trust_remote_code else _TEXTS
    say = note or (lambda _text: None)
    if only:
        return _patiently(name, revision, list(only), say), None
    folder = _patiently(name, revision, [*texts, "*.safetensors"], say)
    if not any(folder.glob("*.safetensors")):
        folder = _patiently(name, revision, [*texts, "pytorch_model*.bin"], say)
    return folder, folder.name or None


def _session() -> Any:
    """A session whose requests all have a time limit."""
    from requests import Session
    from requests.adapters import HTTPAdapter

    class Limited(HTTPAdapter):
        def send(self, request: Any, stream: bool = False, timeout: Any = None, *more: Any, **named: Any) -> Any:
            return super().send(request, stream, timeout or _SILENCE, *more, **named)

    session = Session()
    session.mount("http://", Limited())
    session.mount("https://", Limited())
    return session


def _patiently(name: str, revision: str | None, patterns: list[str], note: Callable[[str], None]) -> Path:
    pause, tried = _PAUSE, 0
    while True:
        tried += 1
        try:
            return _snapshot(name, revision, patterns)
        except _PassingError as error:
            if tried == _TRIES:
                raise SourceError(
                    f"{name} could not be downloaded: {error} ({_TRIES} tries); try again later"
                ) from None
            note(f"{name}: {error}; trying again in {pause:.0f} s ({tried} of {_TRIES - 1})")
        time.sleep(pause)
        pause *= 2


class _PassingError(Exception):
    """What may be over at the next try."""


def _snapshot(name: str, revision: str | None, patterns: list[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )
    from requests.exceptions import RequestException

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns, ignore_patterns=_IGNORED))
    except GatedRepoError:
        raise SourceError(
            f"{name} is gated: accept its terms on its hub page, then log in with `hf auth login` or set HF_TOKEN"
        ) from None
    except RepositoryNotFoundError:
        raise SourceError(
            f"{name} is neither a file or folder here nor a public hub id; check its name, or log in if it is private"
        ) from None
    except RevisionNotFoundError:
        raise SourceError(f"{name} has no revision {revision!r}") from None
    except HFValidationError:
        raise SourceError(f"{name} is neither a file or folder here nor a hub id of the form owner/name") from None
    except LocalEntryNotFoundError as error:
        # It stands for what kept the library from asking the hub.
        reason = error.__cause__
        if isinstance(reason, OfflineModeIsEnabled):
            raise SourceError(f"{name} is not in the local hub cache, and HF_HUB_OFFLINE keeps from the hub") from None
        raise _explained(name, reason or error) from None
    except (HfHubHTTPError, RequestException, OSError) as error:
        if is_full_disk(error):
            from huggingface_hub.constants import HF_HUB_CACHE

            raise full_disk(HF_HUB_CACHE) from error
        raise _explained(name, error) from None


def _explained(name: str, error: BaseException) -> Exception:
    """What a failed request means: `_PassingError`, or a `SourceError`."""
    from requests.exceptions import ConnectionError as Unconnected
    from requests.exceptions import ProxyError, RequestException, SSLError, Timeout

    status = getattr(getattr(error, "response", None), "status_code", None)
    if status == 401:
        return SourceError(
            f"{name}: the hub does not know your token; log in again with `hf auth login`, or correct or unset HF_TOKEN"
        )
    if status == 429:
        return _PassingError("the hub answers 429, too many requests")
    if status is not None:
        said = f"the hub answers {status}"
        return _PassingError(said) if status in _PASSING else SourceError(f"{name} could not be downloaded: {said}")
    if isinstance(error, ProxyError | SSLError):
        return SourceError(f"{name} could not be downloaded: no safe way to the hub ({one_line(error)})")
    if isinstance(error, Timeout) or "timed out" in str(error):
        return _PassingError("the hub does not answer")
    if isinstance(error, Unconnected):
        return _PassingError("not in the local hub cache, and the hub cannot be reached")
    if isinstance(error, RequestException) or "consistency check" in str(error).lower():
        return _PassingError("the hub cut the connection")
    return SourceError(f"{name} could not be downloaded ({one_line(error)})")
