"""Whose weights a checkpoint holds: names without what a wrapper put before them, and those that do not belong."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from nudge_onnx.errors import SourceError

from ..weights import weight_names

__all__ = ["check_report", "unwrap", "wrapped_by"]

_WRAPPERS = re.compile(r"^(?:(?:base_model\.model|module|_orig_mod)\.)+|(?<=\.)_orig_mod\.")
"""What PEFT, data parallelism and torch.compile put before a name."""

_BUFFERS = re.compile(r"(?:\brotary_emb\.inv_freq|\b(?:attn|attention)\.(?:masked_)?bias|\bposition_ids)$")
"""Masks and frequencies that older versions of transformers saved, and that a configuration gives anyway."""

_NAMED = 3
"""Weights to name; there may be thousands."""


def wrapped_by(checkpoint: Path) -> str | None:
    """The prefix that every weight's name bears and that is no part of the model, such as `module.`; or none."""
    # One file is enough: a wrapper wraps all of them.
    found = {match.group(0) if (match := _WRAPPERS.search(name)) else "" for name in weight_names(checkpoint)}
    return min(found) if found and "" not in found else None


def unwrap(name: str) -> str:
    """A weight's own name: transformers renames too late to see whose weights they are."""
    return _WRAPPERS.sub("", name)


def check_report(report: dict[str, Any], checkpoint: Path) -> None:
    """Raise `SourceError` if transformers' report on loading names weights that are missing or left over."""
    kinds = {
        "missing": sorted(report["missing_keys"]),
        "left over": sorted(name for name in report["unexpected_keys"] if not _BUFFERS.search(name)),
        "of another shape": sorted(report["mismatched_keys"]),
    }
    faults = [f"{kind}: {_some(names)}" for kind, names in kinds.items() if names]
    if faults:
        raise SourceError(
            f"{checkpoint}: weights and config.json do not belong together ({'; '.join(faults)}); "
            "a model with other weights than its own would be exported, so give the checkpoint as it was saved"
        )


def _some(names: list[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
