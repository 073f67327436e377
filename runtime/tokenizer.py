"""Text to ids and ids to bytes, for one model.

Special tokens are recognised in prompts only: in an answer, text that looks like one is text.
"""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as _Tokenizer

from nudge_onnx.errors import BundleError

__all__ = ["Tokenizer"]


class Tokenizer:
    """A `tokenizer.json`. Safe for several threads."""

    def __init__(self, path: Path) -> None:
        try:
            self._tokenizer = _Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises plain Exception
            raise BundleError(f"{path.name} cannot be read ({error}); export the bundle again") from None
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._tokenizer.encode_special_tokens = True
        # The switch above is state of the one tokenizer, and reading a prompt turns it.
        self._lock = threading.Lock()
        added = self._tokenizer.get_added_tokens_decoder()
        self.special_ids = frozenset(token_id for token_id, token in added.items() if token.special)
        self._added = {token_id: token.content for token_id, token in added.items()}
        self._byte_level = _is_byte_level(self._tokenizer, path.name)
        self._bytes: dict[int, bytes] = {}

    def encode(self, text: str) -> list[int]:
        """Ids of plain text: no prefix is added, and nothing in it is special."""
        with self._lock:
            ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def encode_prompt(self, text: str, add_prefix: bool) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids of a prompt, in which special tokens are recognised, and each id's characters `(start, end)` of `text`.

        `add_prefix` puts what the tokenizer's post-processor adds (usually BOS) before them.
        """
        with self._lock:
            self._tokenizer.encode_special_tokens = False
            try:
                encoding = self._tokenizer.encode(text, add_special_tokens=False)
                prefix = self._prefix() if add_prefix else []
            finally:
                self._tokenizer.encode_special_tokens = True
        return prefix + encoding.ids, [(0, 0)] * len(prefix) + encoding.offsets

    def bytes_of(self, token_id: int) -> bytes:
        """The UTF-8 bytes that a token stands for; none for a special token or an id beyond the vocabulary."""
        known = self._bytes.get(token_id)
        if known is None:
            known = self._bytes[token_id] = self._look_up(token_id)
        return known

    def _prefix(self) -> list[int]:
        plain: list[int] = self._tokenizer.encode("a", add_special_tokens=False).ids
        closed: list[int] = self._tokenizer.encode("a", add_special_tokens=True).ids
        return closed[: closed.index(plain[0])]

    def _look_up(self, token_id: int) -> bytes:
        if token_id in self.special_ids:
            return b""
        token: str | None = self._tokenizer.id_to_token(token_id)
        if token is None:
            return b""
        if self._byte_level:
            if token_id in self._added:
                return token.encode()
            return bytes(_BYTE_OF[char] for char in token) if all(c in _BYTE_OF for c in token) else token.encode()
        if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
            return bytes([int(token[3:5], 16)])
        return token.replace("▁", " ").encode()


def _is_byte_level(tokenizer: _Tokenizer, name: str) -> bool:
    """Whether tokens spell bytes in GPT-2's alphabet, or characters with U+2581 for a space (SentencePiece)."""
    decoder: Any = tokenizer.decoder
    state = json.loads(decoder.__getstate__()) if decoder is not None else {}
    kinds = {state.get("type")} | {step.get("type") for step in state.get("decoders", [])}
    if "ByteLevel" in kinds:
        return True
    if kinds & {"ByteFallback", "Replace", "Metaspace"}:
        return False
    raise BundleError(
        f"{name} decodes with {state.get('type')}; only byte-level and SentencePiece-style BPE are supported"
    )


def _byte_alphabet() -> dict[str, int]:
    # GPT-2's table: printable Latin-1 bytes stand for themselves, the rest for code points from 256 on.
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {chr(byte): byte for byte in printable}
    others = [byte for byte in range(256) if byte not in set(printable)]
    table.update({chr(256 + index): byte for index, byte in enumerate(others)})
    return table


_BYTE_OF = _byte_alphabet()
