"""The tokenizer as one `tokenizer.json`, and what it says about prompts and ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nudge_onnx.errors import SourceError

from ..support.faults import one_line
from ..support.quiet import quiet
from .calibration_text import calibration_text

__all__ = ["load_tokenizer", "same_vocabulary", "save_tokenizer", "tokens_without_rows"]

_READABLE_DECODERS = {"ByteLevel", "ByteFallback", "Replace", "Metaspace"}
"""Decoders whose tokens can be read as bytes, as `docs/bundle.md` says."""

_SHOWN = 3


def load_tokenizer(checkpoint: Path, *, trust_remote_code: bool = False) -> Any:
    """transformers' fast tokenizer; one that is only there in its slow form is converted.

    Raises `SourceError` for a tokenizer that is corrupt, has no fast form, or whose tokens a runtime could not read as
    bytes.
    """
    from transformers import AutoTokenizer

    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(checkpoint, trust_remote_code=trust_remote_code)
    except Exception as error:  # tokenizers raises plain Exception for a file that it cannot parse
        raise SourceError(f"{checkpoint}: its tokenizer cannot be loaded ({one_line(error)})") from None
    if not tokenizer.is_fast:
        raise SourceError(f"{checkpoint} has no fast tokenizer (tokenizer.json), and transformers cannot make one")
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    kind, decoder = content["model"]["type"], content["decoder"] or {}
    decoders = {decoder.get("type")} | {step.get("type") for step in decoder.get("decoders", [])}
    if kind != "BPE" or not decoders & _READABLE_DECODERS:
        raise SourceError(
            f"{checkpoint}: its tokenizer is {kind} with decoder {decoder.get('type')}; "
            "only byte-level and SentencePiece-style BPE are supported"
        )
    return tokenizer


def tokens_without_rows(tokenizer: Any, rows: int, name: str) -> str:
    """The tokens, as a text, that a model with so many rows of logits does not know; empty where it knows all.

    Tokens for images or padding are often added behind the last row. Raises `SourceError` where an ordinary text, or
    what is put before each, has such tokens: then it is the tokenizer of another model.
    """
    if len(tokenizer) <= rows:
        return ""
    if max(tokenizer.encode(calibration_text(), verbose=False)) >= rows:
        raise SourceError(f"{name}: its tokenizer has {len(tokenizer)} tokens and its model {rows}; they do not fit")
    unknown = sorted((number, token) for token, number in tokenizer.get_vocab().items() if number >= rows)
    shown = ", ".join(repr(token) for _, token in unknown[:_SHOWN])
    return shown + (f" and {len(unknown) - _SHOWN} more" if len(unknown) > _SHOWN else "")


def save_tokenizer(tokenizer: Any, path: Path) -> None:
    """Write `tokenizer.json` without truncation or padding, which are settings of a training run.

    It has no white space, and a merge is one text instead of two: reading Gemma's so takes two thirds of the time, and
    while it is read a quarter of the memory.
    """
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    path.parent.mkdir(parents=True, exist_ok=True)
    content = json.loads(backend.to_str())
    content["model"]["merges"] = _short(content["model"]["merges"])
    path.write_text(json.dumps(content, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")


def _short(merges: list[list[str]]) -> list[list[str]] | list[str]:
    """Merges as `left right`, unless a space is a part of one or it would be read as the head of a file of merges."""
    plain = all(" " not in left + right and not left.startswith("#version") for left, right in merges)
    return [" ".join(pair) for pair in merges] if plain else merges


def same_vocabulary(first: Any, second: Any) -> bool:
    """Whether two fast tokenizers give every text the same ids: then tokens may pass from one model to the other."""
    return _what_decides(first) == _what_decides(second)


def _what_decides(tokenizer: Any) -> dict[str, Any]:
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    added = {token["id"]: (token["content"], token["special"]) for token in content["added_tokens"]}
    return {
        "added": added,
        **{key: content[key] for key in ("model", "normalizer", "pre_tokenizer", "decoder")},
    }
