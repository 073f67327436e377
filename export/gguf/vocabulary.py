"""A GGUF file's vocabulary: tokens, their types, and the ids that begin and end a text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gguf import TokenType
from tokenizers import AddedToken

from nudge_onnx.errors import SourceError

from .metadata import Metadata

__all__ = ["Vocabulary", "read_vocabulary"]

NONE = 2**32 - 1
"""-1 as an unsigned number, which is how some converters say that there is no such token."""
END_KEYS = ("eos_token_id", "eot_token_id", "eom_token_id")
"""Any of these ends a generation: of text, of turn, of message. Files name those that their model has."""
STRIPPING = ("phi3", "llama")
"""Architecture and kind of tokenizer of Phi-3, whose tokens do so. A file has no key for it: llama.cpp goes by the
name of the model, which converters spell in several ways."""
NEVER_STRIP = ("<unk>", "<s>", "<|endoftext|>")


@dataclass(frozen=True)
class Vocabulary:
    """Tokens by id, and the special ids."""

    file: str
    """The file's name, for messages."""
    tokens: tuple[str, ...]
    types: tuple[int, ...]
    """One `gguf.TokenType` per token."""
    end_ids: tuple[int, ...]
    """Ids that end a generation, end of text first."""
    bos_id: int | None = None
    unknown_id: int | None = None
    padding_id: int | None = None
    add_bos: bool = False
    strips: bool = False
    """Control and user-defined tokens take the white space behind them too, but for `NEVER_STRIP`."""

    def ids(self) -> dict[str, int]:
        """Token to id."""
        return {token: index for index, token in enumerate(self.tokens)}

    def text(self, index: int | None) -> str | None:
        """The token of an id, or `None` where there is no such id."""
        return None if index is None else self.tokens[index]

    def added_tokens(self) -> list[AddedToken]:
        """Tokens that are found in a text before it is tokenized: control tokens (special) and user-defined ones.

        They are matched in the raw text, before normalisation, as llama.cpp does.
        """
        special = {TokenType.CONTROL, TokenType.UNKNOWN}
        return [
            AddedToken(
                token,
                special=kind in special,
                normalized=False,
                rstrip=self.strips and token not in NEVER_STRIP,
            )
            for token, kind in zip(self.tokens, self.types, strict=True)
            if kind in special or kind == TokenType.USER_DEFINED
        ]


def read_vocabulary(metadata: Metadata, add_bos: bool) -> Vocabulary:
    """Read `tokenizer.ggml.*`; `add_bos` is what holds where the file says nothing.

    Raises `SourceError` if it is incomplete or contradicts itself.
    """
    tokens = tuple(metadata.require_list("tokenizer.ggml.tokens", str))
    types = tuple(metadata.require_list("tokenizer.ggml.token_type", int))
    if len(types) != len(tokens):
        raise SourceError(f"{metadata.file} has {len(tokens)} tokens and {len(types)} token types; it is corrupt")
    if len(set(tokens)) != len(tokens):
        raise SourceError(f"{metadata.file} lists a token twice; its tokenizer cannot be rebuilt")
    named = {key: _token_id(metadata, key, len(tokens)) for key in END_KEYS}
    # Several keys often name one id; a dict keeps the order and drops the repetition.
    end_ids = tuple(dict.fromkeys(index for index in named.values() if index is not None))
    if not end_ids:
        raise SourceError(f"{metadata.file} names no end token (tokenizer.ggml.eos_token_id); convert it to GGUF again")
    vocabulary = Vocabulary(
        file=metadata.file,
        tokens=tokens,
        types=types,
        end_ids=end_ids,
        bos_id=_token_id(metadata, "bos_token_id", len(tokens)),
        unknown_id=_token_id(metadata, "unknown_token_id", len(tokens)),
        padding_id=_token_id(metadata, "padding_token_id", len(tokens)),
        add_bos=metadata.get("tokenizer.ggml.add_bos_token", bool, add_bos),
        strips=(metadata.values.get("general.architecture"), metadata.values.get("tokenizer.ggml.model")) == STRIPPING,
    )
    if vocabulary.add_bos and vocabulary.bos_id is None:
        raise SourceError(f"{metadata.file} asks for a BOS token and names none; convert it to GGUF again")
    return vocabulary


def _token_id(metadata: Metadata, key: str, size: int) -> int | None:
    value: Any = metadata.get(f"tokenizer.ggml.{key}", int, -1)
    if value == NONE:
        return None
    if value >= size:
        raise SourceError(f"{metadata.file}: {key} is {value}, beyond its {size} tokens; it is corrupt")
    return value if value >= 0 else None
