"""Downloads a checkpoint from the hub."""

from __future__ import annotations

import sys
from pathlib import Path

from nudge_onnx.errors import SourceError

__all__ = ["download"]

_TEXTS = ["*.json", "*.jinja", "*.model", "*.txt", "README.md"]
# Subfolders hold other formats; "consolidated" files repeat the weights in a vendor's own layout.
_IGNORED = ["*/*", "consolidated*"]


def download(name: str, revision: str | None, *, trust_remote_code: bool = False) -> tuple[Path, str | None]:
    """The folder of a hub checkpoint in the hub's own cache, and the commit it is of.

    Weights are taken as safetensors, or as PyTorch files where there are no others. Raises `SourceError`, one line, for
    an id that does not exist, is private or gated, and where neither network nor cache has it.
    """
    from huggingface_hub.utils import disable_progress_bars

    if not sys.stderr.isatty():
        disable_progress_bars()
    texts = [*_TEXTS, "*.py"] if trust_remote_code else _TEXTS
    folder = _snapshot(name, revision, [*texts, "*.safetensors"])
    if not any(folder.glob("*.safetensors")):
        folder = _snapshot(name, revision, [*texts, "pytorch_model*.bin"])
    return folder, folder.name or None


def _snapshot(name: str, revision: str | None, patterns: list[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

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
    except LocalEntryNotFoundError:
        raise SourceError(
            f"{name} is not in the local hub cache and the hub cannot be reached; check the network"
        ) from None
    except (HfHubHTTPError, ConnectionError) as error:
        raise SourceError(f"{name} could not be downloaded ({str(error).splitlines()[0]}); try again") from None
