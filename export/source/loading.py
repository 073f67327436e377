"""A checkpoint's model in PyTorch, if every weight of the one is a weight of the other.

transformers fills what a checkpoint lacks with random numbers, leaves out what it does not know, and warns. A model
that was loaded so is another one than its author's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nudge_onnx.errors import SourceError

from ..support.faults import one_line, reraise_full_disk
from ..support.quiet import quiet
from .configuration import model_config

__all__ = ["load_model", "wrapped_by"]

_WRAPPERS = re.compile(r"^(?:(?:base_model\.model|module|_orig_mod)\.)+|(?<=\.)_orig_mod\.")
"""What PEFT, data parallelism and torch.compile put before a name."""

_BUFFERS = re.compile(r"(?:\brotary_emb\.inv_freq|\b(?:attn|attention)\.(?:masked_)?bias|\bposition_ids)$")
"""Masks and frequencies that older versions of transformers saved, and that a configuration gives anyway."""

_NAMED = 3
"""Weights to name; there may be thousands."""


def load_model(checkpoint: Path, *, trust_remote_code: bool = False) -> Any:
    """The model in fp32, on the CPU, in evaluation mode.

    Raises `SourceError`, one line, where weights are missing, left over, of another shape, or not finite.
    """
    import torch
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoModelForCausalLM, Mxfp4Config

    config = model_config(checkpoint, trust_remote_code=trust_remote_code)
    # `load_config` has refused all formats of quantised weights but those that transformers unpacks.
    packed = getattr(config, "quantization_config", None) is not None
    options = {"quantization_config": Mxfp4Config(dequantize=True)} if packed else {}
    try:
        with quiet():
            weights = _unwrapped(checkpoint) if wrapped_by(checkpoint) else None
            kind = AutoModelForCausalLM if weights is None else MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
            model, report = kind.from_pretrained(
                checkpoint if weights is None else None,
                state_dict=weights,
                config=config,
                dtype=torch.float32,
                trust_remote_code=trust_remote_code,
                local_files_only=True,
                # Reported with all others instead of a table of them.
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                **options,
            )
    except Exception as error:  # transformers raises all kinds, and a model with code of its own any
        reraise_full_disk(error)
        raise SourceError(f"{checkpoint}: its weights cannot be loaded ({one_line(error)})") from None
    _check_report(report, checkpoint)
    model = model.float().eval()
    _check_finite(model, checkpoint)
    return model


def wrapped_by(checkpoint: Path) -> str | None:
    """The prefix that every weight's name bears and that is no part of the model, such as `module.`; or none."""
    found = {match.group(0) if (match := _WRAPPERS.search(name)) else "" for name in _names(checkpoint)}
    return min(found) if found and "" not in found else None


def _names(checkpoint: Path) -> Iterable[str]:
    """Names of the weights in one of the files: a wrapper wraps all of them."""
    for path in _files(checkpoint)[:1]:
        if path.suffix != ".safetensors":
            return _read(path, "meta")
        from safetensors import safe_open

        with safe_open(path, framework="pt") as file:
            return list(file.keys())
    return []


def _files(checkpoint: Path) -> list[Path]:
    kinds = ("model*.safetensors", "pytorch_model*.bin")
    return next((files for kind in kinds if (files := sorted(checkpoint.glob(kind)))), [])


def _read(path: Path, device: str = "cpu") -> dict[str, Any]:
    """The weights of one file; on "meta" their names and shapes."""
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return dict(load_file(path, device=device))
    import torch

    return dict(torch.load(path, map_location=device, weights_only=True, mmap=device == "cpu"))


def _unwrapped(checkpoint: Path) -> dict[str, Any]:
    """All weights under their own names: transformers renames too late to see whose weights they are."""
    return {_WRAPPERS.sub("", name): weight for path in _files(checkpoint) for name, weight in _read(path).items()}


def _check_report(report: dict[str, Any], checkpoint: Path) -> None:
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


def _check_finite(model: Any, checkpoint: Path) -> None:
    import torch

    for name, weight in model.named_parameters():
        # The sum is not finite if one of its terms is not, and takes no copy; a finite weight may overflow it.
        if not torch.isfinite(weight.sum()) and not torch.isfinite(weight).all():
            raise SourceError(
                f"{checkpoint}: the weight {name} holds numbers that are not finite; "
                "the training that made it diverged, or the file is damaged"
            )
