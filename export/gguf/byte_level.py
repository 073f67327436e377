"""Byte-level BPE (`tokenizer.ggml.model` is `gpt2`): merges from the file, the pre-tokenizer by its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tokenizers import Regex, Tokenizer, decoders, normalizers
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Digits, PreTokenizer, Split
from tokenizers.pre_tokenizers import Sequence as PreTokenizers

from nudge_onnx.errors import SourceError

from .vocabulary import Vocabulary

__all__ = ["PRE_TOKENIZERS", "Pre", "byte_level_tokenizer", "pre_tokenizer_named"]

CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA_3 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + REST
QWEN_2 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + REST


@dataclass(frozen=True)
class Pre:
    """What a name in `tokenizer.ggml.pre` stands for."""

    split: Callable[[], PreTokenizer]
    add_bos: bool = False
    """What holds where the file does not say it."""
    ignore_merges: bool = False
    """A piece that is a token is taken whole, whatever the merges."""
    nfc: bool = False
    """Text is normalised to NFC first. llama.cpp leaves that out; the models were trained with it."""


def _gpt_2() -> PreTokenizer:
    return ByteLevel(add_prefix_space=False, use_regex=True)


def _smollm() -> PreTokenizer:
    return PreTokenizers([Digits(individual_digits=True), _gpt_2()])


def _by_regex(pattern: str) -> Callable[[], PreTokenizer]:
    def split() -> PreTokenizer:
        return PreTokenizers(
            [Split(Regex(pattern), behavior="isolated"), ByteLevel(add_prefix_space=False, use_regex=False)]
        )

    return split


# "default" is missing on purpose: a converter writes it where it did not recognise the model's pre-tokenizer.
PRE_TOKENIZERS: Mapping[str, Pre] = {
    "gpt-2": Pre(_gpt_2),
    "smollm": Pre(_smollm),
    "llama-bpe": Pre(_by_regex(LLAMA_3), add_bos=True, ignore_merges=True),
    "qwen2": Pre(_by_regex(QWEN_2), nfc=True),
}


def pre_tokenizer_named(name: str, file: str) -> Pre:
    """Look up `tokenizer.ggml.pre`; `SourceError` for one that cannot be rebuilt exactly."""
    if name not in PRE_TOKENIZERS:
        known = ", ".join(sorted(PRE_TOKENIZERS))
        raise SourceError(f"{file}: pre-tokenizer {name!r} is not supported ({known}); use the original checkpoint")
    return PRE_TOKENIZERS[name]


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
