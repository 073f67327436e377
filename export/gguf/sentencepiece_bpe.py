"""SentencePiece BPE (`tokenizer.ggml.model` is `llama`), as Gemma and Llama 2 have it.

A GGUF file keeps no merges of such a model, only a score per token: two neighbours are joined if what they
spell is a token, best score first. A merge list says the same: every way to cut a token in two, in order of score.
"""

from __future__ import annotations

from collections.abc import Sequence

from gguf import TokenType
from tokenizers import Tokenizer, decoders, normalizers
from tokenizers.models import BPE

from nudge_onnx.errors import SourceError

from .vocabulary import Vocabulary

__all__ = ["merges_of", "sentencepiece_tokenizer"]

SPACE = "▁"
"""SentencePiece's sign for a space."""
BYTES = 256


def sentencepiece_tokenizer(vocabulary: Vocabulary, scores: Sequence[float], add_space_prefix: bool) -> Tokenizer:
    """Build the tokenizer, without a post-processor. `scores` has one number per token, the higher the sooner.

    Raises `SourceError` if scores and tokens differ in number, or if neither bytes nor an unknown token can stand for
    characters outside the vocabulary.
    """
    if len(scores) != len(vocabulary.tokens):
        raise SourceError(
            f"{vocabulary.file} has {len(vocabulary.tokens)} tokens and {len(scores)} scores; it is corrupt"
        )
    byte_fallback = sum(kind == TokenType.BYTE for kind in vocabulary.types) == BYTES
    unknown = vocabulary.text(vocabulary.unknown_id)
    if not byte_fallback and unknown is None:
        raise SourceError(f"{vocabulary.file} has neither 256 byte tokens nor an unknown token; convert it again")
    tokenizer = Tokenizer(
        BPE(
            vocabulary.ids(),
            merges_of(vocabulary, scores),
            unk_token=unknown,
            fuse_unk=True,
            byte_fallback=byte_fallback,
        )
    )
    to_signs = normalizers.Replace(" ", SPACE)
    to_text = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if add_space_prefix:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), to_signs])
        tokenizer.decoder = decoders.Sequence([*to_text, decoders.Strip(" ", 1, 0)])
    else:
        tokenizer.normalizer = to_signs
        tokenizer.decoder = decoders.Sequence(to_text)
    return tokenizer


def merges_of(vocabulary: Vocabulary, scores: Sequence[float]) -> list[tuple[str, str]]:
    """Every pair of ordinary tokens that spells an ordinary token, best score of the whole first.

    Control and user-defined tokens take no part: these are found before the merging begins, and never arise from it.
    """
    plain = {
        token: index
        for index, (token, kind) in enumerate(zip(vocabulary.tokens, vocabulary.types, strict=True))
        if kind == TokenType.NORMAL
    }
    merges: list[tuple[str, str]] = []
    # A stable sort keeps tokens of equal score in the order of their ids.
    for token in sorted(plain, key=lambda token: -scores[plain[token]]):
        cuts = ((token[:at], token[at:]) for at in range(1, len(token)))
        pairs = [(left, right) for left, right in cuts if left in plain and right in plain]
        merges += sorted(pairs, key=lambda pair: (plain[pair[0]], plain[pair[1]]))
    return merges
