"""A checkpoint's model in PyTorch, if every weight of the one is a weight of the other.

transformers fills what a checkpoint lacks with random numbers, leaves out what it does not know, and warns. A model
that was loaded so is another one than its author's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from nudge_onnx.errors import SourceError

from ..gguf import GGUF_FILE
from ..support.faults import one_line, reraise_full_disk
from ..support.quiet import quiet
from ..weights import open_weights
from .configuration import model_config
from .named_weights import named_weights
from .skeleton import fill, skeleton
from .weight_names import check_report, unwrap, wrapped_by

__all__ = ["load_model"]


def load_model(checkpoint: Path, *, trust_remote_code: bool = False) -> Any:
    """The model in fp32, on the CPU, in evaluation mode.

    Raises `SourceError`, one line, where weights are missing, left over, of another shape, or not finite.
    """
    import torch
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoModelForCausalLM, Mxfp4Config

    if (checkpoint / GGUF_FILE).is_file():
        found = named_weights(checkpoint)
        model = skeleton(found)
        fill(model, found.weights, large=True)
        return model
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
    check_report(report, checkpoint)
    model = model.float().eval()
    _check_finite(model, checkpoint)
    return model


def _unwrapped(checkpoint: Path) -> dict[str, Any]:
    import torch

    return {
        name: torch.from_numpy(np.asarray(weight)) for name, weight in open_weights(checkpoint, rename=unwrap).items()
    }


def _check_finite(model: Any, checkpoint: Path) -> None:
    import torch

    for name, weight in model.named_parameters():
        # The sum is not finite if one of its terms is not, and takes no copy; a finite weight may overflow it.
        if not torch.isfinite(weight.sum()) and not torch.isfinite(weight).all():
            raise SourceError(
                f"{checkpoint}: the weight {name} holds numbers that are not finite; "
                "the training that made it diverged, or the file is damaged"
            )
