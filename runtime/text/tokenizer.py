"""Text to ids and ids to bytes, for one model.

Special tokens are recognised in prompts only: in an answer, text that looks like one is text.
"""

from __future__ import annotations

import json
import threading
from bisect import bisect_right
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as _Tokenizer

from nudge_onnx.errors import BundleError, NudgeError

__all__ = ["Tokenizer"]


Span = tuple[int, int]
"""Characters of a text: the first, and the one behind the last."""


class Tokenizer:
    """A `tokenizer.json`. Safe for several threads."""

    def __init__(self, path: Path, model: str = "", rows: int | None = None) -> None:
        """`model` is the role of the model that reads the ids, which has logits for ids below `rows` (None: for all).

        Raises `BundleError` for a file that is no such tokenizer.
        """
        try:
            self._tokenizer = _Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises plain Exception
            raise BundleError(f"{path.name} cannot be read ({error}); export the bundle again") from None
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._tokenizer.encode_special_tokens = True
        # The switch above is state of the one tokenizer, and reading a prompt turns it.
        self._lock = threading.Lock()
        self._model, self._rows = model, rows
        self.size: int = rows if rows is not None else self._tokenizer.get_vocab_size()
        """Ids from 0 up to this one; not each may have a token."""
        added = self._tokenizer.get_added_tokens_decoder()
        self.special_ids = frozenset(token_id for token_id, token in added.items() if token.special)
        self.special_tokens = frozenset(token.content for token in added.values() if token.special)
        """What special tokens are spelled like."""
        # Models have thousands of them; by these lists one finds those that begin or end in some way.
        self._by_start = sorted(self.special_tokens)
        self._by_end = sorted(token[::-1] for token in self.special_tokens)
        self.longest_special = max(map(len, self.special_tokens), default=0)
        """Characters of the longest special token."""
        self._added = {token_id: token.content for token_id, token in added.items()}
        unknown: str | None = getattr(self._tokenizer.model, "unk_token", None)
        self._unknown = None if unknown is None else self._tokenizer.token_to_id(unknown)
        self._byte_level = _is_byte_level(self._tokenizer, path.name)
        self._bytes: dict[int, bytes] = {}
        self.lead = "\n" if self.bytes_of(next(iter(self.encode("a")), -1)).startswith(b" ") else ""
        """What to encode before a text that does not start a string; empty where the start of one gets no mark."""
        self._lead_ids = len(self.encode(self.lead))

    def encode(self, text: str) -> list[int]:
        """Ids of plain text: no prefix is added, and nothing in it is special.

        Raises `NudgeError` for a token that the model has no row for.
        """
        with self._lock:
            ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return self._with_rows(ids)

    def encode_inside(self, text: str) -> list[int]:
        """Ids of plain text inside a longer one: the space that many tokenizers put at the start of a string is not."""
        return self.encode(self.lead + text)[self._lead_ids :]

    def encode_prompt(
        self, text: str, add_prefix: bool, hidden: Mapping[str, str] | None = None
    ) -> tuple[list[int], list[Span]]:
        """Ids of a prompt, in which special tokens are recognised, and each id's characters of `text`.

        `add_prefix` puts what the tokenizer's post-processor adds (usually BOS) before them. `hidden` are characters
        that stand for others, and keep special tokens from being recognised where they stand. Raises `NudgeError`
        for a token that the model has no row for.
        """
        with self._lock:
            ids, offsets = self._recognise(text)
            prefix = self._prefix() if add_prefix else []
        if hidden and any(mark in text for mark in hidden):
            ids, offsets = self._uncover(text, ids, offsets, hidden)
        return self._with_rows(prefix + ids), [(0, 0)] * len(prefix) + offsets

    def special_spans(self, text: str) -> list[Span]:
        """Where a prompt's text would be read as special tokens."""
        with self._lock:
            ids, offsets = self._recognise(text)
        return [offsets[place] for place in self._specials(text, ids, offsets)]

    def begins_special(self, text: str) -> bool:
        """Whether a special token begins with a text and goes on."""
        return _goes_on(self._by_start, text)

    def ends_special(self, text: str) -> bool:
        """Whether a special token ends with a text that is not all of it."""
        return _goes_on(self._by_end, text[::-1])

    def bytes_of(self, token_id: int) -> bytes:
        """The UTF-8 bytes that a token stands for; none for a special token or an id beyond the vocabulary."""
        known = self._bytes.get(token_id)
        if known is None:
            known = self._bytes[token_id] = self._look_up(token_id)
        return known

    def _recognise(self, text: str) -> tuple[list[int], list[Span]]:
        """Ids and spans with special tokens; the lock is held."""
        self._tokenizer.encode_special_tokens = False
        try:
            encoding = self._tokenizer.encode(text, add_special_tokens=False)
        finally:
            self._tokenizer.encode_special_tokens = True
        return encoding.ids, encoding.offsets

    def _specials(self, text: str, ids: list[int], offsets: list[Span]) -> list[int]:
        """Which ids are special tokens that the text spells: one may also stand for characters that are unknown."""
        return [
            place
            for place, (token_id, (start, end)) in enumerate(zip(ids, offsets, strict=True))
            if token_id in self.special_ids
            and (token_id != self._unknown or text[start:end].strip() == self._added[token_id])
        ]

    def _uncover(
        self, text: str, ids: list[int], offsets: list[Span], hidden: Mapping[str, str]
    ) -> tuple[list[int], list[Span]]:
        """The ids with what is between two special tokens read anew as plain text, where something in it is hidden."""
        shown = {ord(mark): char for mark, char in hidden.items()}
        specials = self._specials(text, ids, offsets)
        all_ids: list[int] = []
        all_spans: list[Span] = []
        first, start = 0, 0
        for place in [*specials, len(ids)]:
            end = offsets[place][0] if place < len(ids) else len(text)
            part = text[start:end]
            if any(mark in part for mark in hidden):
                inner, spans = self._plain(part.translate(shown), at_start=start == 0)
                all_ids += inner
                all_spans += [(start + left, start + right) for left, right in spans]
            else:
                all_ids += ids[first:place]
                all_spans += offsets[first:place]
            if place < len(ids):
                all_ids.append(ids[place])
                all_spans.append(offsets[place])
                first, start = place + 1, offsets[place][1]
        return all_ids, all_spans

    def _plain(self, text: str, at_start: bool) -> tuple[list[int], list[Span]]:
        """Ids and spans of plain text; one that does not start a string gets no mark of a start."""
        lead = "" if at_start or not self._marks_the_start() else "\n"
        with self._lock:
            skipped = len(self._tokenizer.encode(lead, add_special_tokens=False).ids) if lead else 0
            encoding = self._tokenizer.encode(lead + text, add_special_tokens=False)
        spans = [(max(left - len(lead), 0), right - len(lead)) for left, right in encoding.offsets[skipped:]]
        return encoding.ids[skipped:], spans

    def _marks_the_start(self) -> bool:
        """Whether a text alone has other ids than behind a special token."""
        with self._lock:
            behind, _ = self._recognise(min(self.special_tokens) + "a")
            alone: list[int] = self._tokenizer.encode("a", add_special_tokens=False).ids
        return behind[1:] != alone

    def _prefix(self) -> list[int]:
        """What the post-processor puts before a text; the lock is held."""
        plain: list[int] = self._tokenizer.encode("a", add_special_tokens=False).ids
        closed: list[int] = self._tokenizer.encode("a", add_special_tokens=True).ids
        return closed[: closed.index(plain[0])]

    def _with_rows(self, ids: list[int]) -> list[int]:
        """The ids, each of which the model can read."""
        if self._rows is not None and ids and max(ids) >= self._rows:
            token_id = max(ids)
            raise NudgeError(
                f"the text holds {self._tokenizer.id_to_token(token_id)!r}, which is token {token_id}, and the "
                f"{self._model} model has {self._rows} rows for tokens only; take it out of the prompt"
            )
        return ids

    def name_of(self, token_id: int) -> str | None:
        """How the vocabulary spells a token, special ones too; `None` for an id beyond it."""
        name: str | None = self._tokenizer.id_to_token(token_id)
        return name

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


def _goes_on(tokens: list[str], text: str) -> bool:
    """Whether one of these, in order, begins with a text and is longer; the text itself comes before those."""
    following = bisect_right(tokens, text)
    return following < len(tokens) and tokens[following].startswith(text)


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
