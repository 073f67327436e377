"""A checkpoint's model in PyTorch, if every weight of the one is a weight of the other.

transformers fills what a checkpoint lacks with random numbers, leaves out what it does not know, and warns. A model
that was loaded so is another one than its author's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nudge_onnx.errors import SourceError

from ..gguf import GGUF_FILE
from ..support.faults import one_line, reraise_full_disk
from ..support.quiet import quiet
from ..weights import check_finite
from .configuration import model_config
from .named_weights import named_weights
from .skeleton import fill, skeleton
from .weight_names import check_report, wrapped_by

__all__ = ["load_model"]


def load_model(checkpoint: Path, *, trust_remote_code: bool = False) -> Any:
    """The model in fp32, on the CPU, in evaluation mode.

    Raises `SourceError`, one line, where weights are missing, left over, of another shape, or not finite.
    """
    import torch
    from transformers import AutoModelForCausalLM, Mxfp4Config

    if (checkpoint / GGUF_FILE).is_file() or wrapped_by(checkpoint):
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
            model, report = AutoModelForCausalLM.from_pretrained(
                checkpoint,
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
    for name, weight in model.named_parameters():
        check_finite(weight.detach().numpy(), name, checkpoint)
    return model
