"""Byte-level BPE (`tokenizer.ggml.model` is `gpt2`): merges from the file, the pre-tokenizer by its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tokenizers import Tokenizer, decoders, normalizers
from tokenizers.models import BPE

from nudge_onnx.errors import SourceError

from .pre_tokenizers import Pre
from .vocabulary import Vocabulary

__all__ = ["byte_level_tokenizer"]


def byte_level_tokenizer(vocabulary: Vocabulary, merges: Sequence[str], pre: Pre) -> Tokenizer:
    """Build the tokenizer, without a post-processor. `merges` are pairs `"left right"`, best first.

    Raises `SourceError` if a merge is ill-formed or of tokens that are not there.
    """
    ids = vocabulary.ids()
    pairs = [_pair(merge, ids, vocabulary.file) for merge in merges]
    tokenizer = Tokenizer(BPE(ids, pairs, ignore_merges=pre.ignore_merges))
    if pre.nfc:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre.split()
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _pair(merge: str, ids: Mapping[str, int], file: str) -> tuple[str, str]:
    left, _, right = merge.partition(" ")
    if left not in ids or right not in ids or left + right not in ids:
        raise SourceError(f"{file}: the merge {merge!r} is not of tokens in the vocabulary; the file is corrupt")
    return left, right
