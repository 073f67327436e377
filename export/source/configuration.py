"""A checkpoint's configuration: read, and refused early where no graph, or that of another model, would come of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nudge_onnx.errors import ExportError, SourceError

from ..support.faults import one_line
from ..support.quiet import quiet

__all__ = ["TASK", "claimed_context", "context_length", "load_config", "model_config", "original_context"]

TASK = "text-generation-with-past"
"""Optimum's name for a decoder with its cache."""

_UNPACKED = frozenset({"mxfp4"})
"""Formats of quantised weights that transformers turns into floats on a CPU."""

_FORMATS = {
    "fp8": "FP8",
    "fbgemm_fp8": "FP8",
    "gptq": "GPTQ",
    "awq": "AWQ",
    "bitsandbytes": "bitsandbytes",
    "compressed-tensors": "compressed-tensors",
}
_TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")
_LEAST_CONTEXT = 32
"""What the comparison with PyTorch has to read: less is no model that could answer either."""
_LENGTHS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")


def load_config(checkpoint: Path, *, trust_remote_code: bool = False) -> Any:
    """The text model's configuration.

    Raises `SourceError` for one that transformers does not know or that makes no sense, and for weights that are
    quantised in a way that only other programs read; `ExportError` for an architecture that cannot be exported.
    """
    for file in ("config.json", "generation_config.json"):
        _check_content(checkpoint, file)
    config = model_config(checkpoint, trust_remote_code=trust_remote_code)
    _check_architecture(config)
    _check_falcon(config)
    text = config.get_text_config(decoder=True)
    if (length := context_length(text)) < _LEAST_CONTEXT:
        raise SourceError(f"{checkpoint} reads texts of up to {length} tokens; a bundle needs {_LEAST_CONTEXT} or more")
    return text


def model_config(checkpoint: Path, *, trust_remote_code: bool = False) -> Any:
    """The whole model's configuration, without the kernels that a checkpoint asks for: a trace has its own."""
    from transformers import AutoConfig

    try:
        with quiet():
            config = AutoConfig.from_pretrained(checkpoint, trust_remote_code=trust_remote_code)
    except Exception as error:  # a configuration class may stumble over any value that it did not expect
        if "trust_remote_code" in str(error):
            raise SourceError(
                f"{checkpoint} brings Python code of its own; read it, then allow it with --trust-remote-code"
            ) from None
        raise SourceError(f"{checkpoint}: transformers cannot read its configuration ({one_line(error)})") from None
    # With a name such as "flash_attention_2" the model would not load here.
    config._attn_implementation = None  # noqa: SLF001, it has no other name
    _drop_padding(config)
    return config


def context_length(config: Any) -> int:
    """Positions that the model can tell apart, and for which one set of rotary frequencies is right."""
    length = claimed_context(config)
    scaling = getattr(config, "rope_scaling", None) or {}
    original = original_context(config)
    # Beyond its original context a LongRoPE model turns all keys by other angles, those in the cache too.
    is_long = "longrope" in (scaling.get("rope_type"), scaling.get("type"))
    return min(length, original) if is_long and original else length


def claimed_context(config: Any) -> int:
    """Positions that the configuration speaks of."""
    lengths = (getattr(config, name, None) for name in _LENGTHS)
    # Models without learned or rotary positions name none; this is what most of them were trained on.
    return next((length for length in lengths if isinstance(length, int)), 2048)


def original_context(config: Any) -> int | None:
    """The context that a model was first trained on, where its rotary frequencies were stretched later."""
    scaling = getattr(config, "rope_scaling", None) or {}
    found = scaling.get("original_max_position_embeddings") or getattr(config, "original_max_position_embeddings", None)
    return int(found) if isinstance(found, (int, float)) and found > 0 else None


def _drop_padding(config: Any) -> None:
    """Forget an id of padding that has no row: nothing is padded here, and PyTorch takes no such embedding."""
    for part in {id(part): part for part in (config, config.get_text_config(decoder=True))}.values():
        padding, rows = getattr(part, "pad_token_id", None), getattr(part, "vocab_size", None)
        if isinstance(padding, int) and isinstance(rows, int) and not 0 <= padding < rows:
            part.pad_token_id = None


def _check_content(checkpoint: Path, file: str) -> None:
    try:
        content = json.loads((checkpoint / file).read_text(encoding="utf-8"))
    except FileNotFoundError:  # a checkpoint need not have generation settings
        return
    except (ValueError, OSError) as error:
        raise SourceError(f"{checkpoint}: {file} cannot be read ({one_line(error)})") from None
    for part in _parts(content):
        for name in _TOKENS:
            _check_ids(part.get(name), name, f"{checkpoint}: {file}")
        quantised = part.get("quantization_config") or part.get("compression_config")
        if isinstance(quantised, Mapping):
            _check_format(quantised, checkpoint)


def _parts(content: Any) -> Iterator[Mapping[str, Any]]:
    """A configuration and those of its models, where there are several."""
    if isinstance(content, Mapping):
        yield content
        yield from (part for name, part in content.items() if name.endswith("_config") and isinstance(part, Mapping))


def _check_ids(value: Any, name: str, where: str) -> None:
    ids = value if isinstance(value, list) and name == "eos_token_id" else [] if value is None else [value]
    if not all(isinstance(token, int) and not isinstance(token, bool) for token in ids):
        kind = "a number or a list of numbers" if name == "eos_token_id" else "a number"
        raise SourceError(f"{where} says {name}: {json.dumps(value)}, which is not {kind}; put the token's id there")


def _check_format(quantised: Mapping[str, Any], checkpoint: Path) -> None:
    bits = next((key for key in ("load_in_4bit", "load_in_8bit") if quantised.get(key)), None)
    method = str(quantised.get("quant_method") or ("bitsandbytes" if bits else "an unknown method"))
    if method not in _UNPACKED:
        raise SourceError(
            f"{checkpoint} is quantised with {_FORMATS.get(method, method)}, which is not read here; "
            "give the unquantised checkpoint that it was made from, or a GGUF file of it"
        )


def _check_falcon(config: Any) -> None:
    """Two kinds of Falcon that would be exported as another model, or fail deep inside Optimum."""
    if config.model_type != "falcon":
        return
    why = None
    if getattr(config, "new_decoder_architecture", False):
        why = "with the new decoder (40b and later) has a cache that Optimum traces in another shape"
    elif getattr(config, "alibi", False):
        why = "with ALiBi (falcon-rw) rounds its positions to bfloat16, which a graph does not"
    if why:
        raise ExportError(f"architecture 'falcon' {why}; see docs/architectures.md for architectures that are tested")


def _check_architecture(config: Any) -> None:
    # Importing the exporters is what registers the architectures.
    from optimum.exporters.tasks import TasksManager

    from . import optimum_configs  # noqa: F401

    known: dict[str, Any] = TasksManager._SUPPORTED_MODEL_TYPE  # noqa: SLF001, it has no other name
    tasks = known.get(config.model_type, {}).get("onnx", {})
    if getattr(config, "is_encoder_decoder", False) or "text2text-generation" in tasks:
        raise ExportError(
            f"architecture {config.model_type!r} is an encoder with a decoder, and nudging needs a decoder alone; "
            "see docs/architectures.md for architectures that are tested"
        )
    if TASK not in tasks:
        raise ExportError(
            f"architecture {config.model_type!r} cannot be exported as a decoder with a KV cache: "
            "Optimum has no export for it, see docs/architectures.md for those that are tested"
        )
