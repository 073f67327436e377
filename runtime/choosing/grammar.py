"""Grammars: what an answer must look like, whoever writes it.

One grammar serves both models. Each has a matcher of its own, since a mask is over a vocabulary; what both know of an
answer are its bytes, so text that one model wrote advances the other's matcher, and a draft that is dropped takes it
back. Masks are made by llguidance (https://github.com/guidance-ai/llguidance).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from nudge_onnx.arguments import must_be
from nudge_onnx.errors import NudgeError, RuntimeMissingError

from ..inference.outputs import Logits
from ..text.prefix import common_prefix
from ..text.prompt import PromptIds
from ..text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from llguidance import LLTokenizer

__all__ = ["Grammar", "Matcher", "Vocabularies", "byte_matcher"]

# JSON as Python and JavaScript print it on one line. Where any white space goes, small models write nothing else.
_JSON_LAYOUT: Any = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


@dataclass(frozen=True)
class Grammar:
    """What an answer must look like. Needs the extra `nudge-onnx[grammar]`.

    Each maker raises `NudgeError` for a grammar that cannot be used, and `RuntimeMissingError` without llguidance.
    """

    source: str
    """The grammar as llguidance reads it; the makers write it."""
    is_json: bool = False
    """Whether it is of JSON: then an answer that reaches its limit is closed, and still is what was asked for."""

    @classmethod
    def json_schema(cls, schema: Mapping[str, Any] | bool) -> Grammar:
        """JSON that a schema admits, on one line. A keyword that cannot be kept to is refused by name."""
        if not isinstance(schema, Mapping | bool):
            raise must_be("schema", "a JSON schema", schema)
        try:
            text = json.dumps(schema if not isinstance(schema, Mapping) else dict(schema))
            source = _library().LLMatcher.grammar_from_json_schema(text, overrides=_JSON_LAYOUT)
        except (ValueError, TypeError, RecursionError) as error:
            raise NudgeError(f"the JSON schema cannot be read ({_line(error)}); give an object of JSON") from None
        return cls._checked(source, "JSON schema", is_json=True)

    @property
    def schema(self) -> Any:
        """The JSON schema, of a grammar that is one."""
        return json.loads(self.source)["grammars"][0].get("json_schema") if self.is_json else None

    @classmethod
    def json(cls) -> Grammar:
        """Any JSON object."""
        return cls.json_schema({"type": "object"})

    @classmethod
    def regex(cls, pattern: str) -> Grammar:
        """Text that a regular expression matches from its first to its last character (Rust's regex syntax)."""
        if not isinstance(pattern, str):
            raise must_be("pattern", "a regular expression", pattern)
        return cls._checked(_library().LLMatcher.grammar_from_regex(pattern), "regular expression")

    @classmethod
    def lark(cls, text: str) -> Grammar:
        """Text that a context-free grammar produces, in llguidance's variant of Lark's syntax."""
        if not isinstance(text, str):
            raise must_be("text", "a grammar in Lark's syntax", text)
        return cls._checked(_library().LLMatcher.grammar_from_lark(text), "grammar")

    @classmethod
    def _checked(cls, source: str, what: str, *, is_json: bool = False) -> Grammar:
        reason = _library().LLMatcher.validate_grammar(source)
        if reason:
            raise NudgeError(f"the {what} cannot be used: {_line(reason)}")
        return cls(source, is_json)


class Vocabularies:
    """What matchers know of each model's tokens, made when it is first asked for. Safe for several threads."""

    def __init__(self, tokenizers: Mapping[str, Tokenizer], ends: Mapping[str, Sequence[int]]) -> None:
        """`ends` are the ids that end what a model writes, by role."""
        self._tokenizers = tokenizers
        self._ends = ends
        self._lock = threading.Lock()
        self._made: dict[str, LLTokenizer] = {}

    def matcher(self, grammar: Grammar, role: str, prompt: PromptIds) -> Matcher:
        """A matcher of the answer to a prompt, in the tokens of a model."""
        with self._lock:
            if role not in self._made:
                words = _Words(self._tokenizers[role], self._ends[role])
                library = _library()
                self._made[role] = library.LLTokenizer(
                    library.TokenizerWrapper(words), n_vocab=len(words.tokens), eos_token=list(self._ends[role])
                )
        return Matcher(grammar, self._made[role], self._tokenizers[role], prompt, frozenset(self._ends[role]))


class Matcher:
    """Where one answer stands in a grammar, for one model. Not for two threads at once."""

    def __init__(
        self,
        grammar: Grammar,
        vocabulary: LLTokenizer,
        tokenizer: Tokenizer,
        prompt: PromptIds,
        ends: frozenset[int],
    ) -> None:
        self._matcher = _library().LLMatcher(vocabulary, grammar.source, log_level=0)
        self._vocabulary = vocabulary
        self._tokenizer = tokenizer
        self._prompt = prompt
        self._end = min(ends)
        # What the matcher has read: stretches of the answer, and how many tokens each is to it.
        self._read: list[bytes] = []
        self._counts: list[int] = []

    def masked(self, logits: Logits, ids: Sequence[int], end: int) -> Logits:
        """The logits after the first `end` of `ids`, a prompt and its answer: -inf where the grammar has no such token.

        After text that the grammar does not have, as a wrong guess may be, only the end is left.
        """
        if self._advance(self._prompt.answer_tokens(ids[:end])):
            bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
            allowed = np.unpackbits(bits, bitorder="little")[: len(logits)].view(bool)
            if self._matcher.is_error():
                raise NudgeError(f"the grammar cannot be followed: {_line(self._matcher.get_error())}")
        else:
            allowed = np.zeros(len(logits), bool)
        if not allowed.any():
            allowed = np.arange(len(logits)) == self._end
        return np.where(allowed, logits, np.float32(-np.inf))

    def _advance(self, tokens: Sequence[int | bytes]) -> bool:
        """Read an answer, going back to where it parts from what was read; whether the grammar has such a text."""
        parts = [self._tokenizer.bytes_of(token) if isinstance(token, int) else token for token in tokens]
        shared = common_prefix(self._read, parts)
        if shared < len(self._read):
            back = sum(self._counts[shared:])
            if back and not self._matcher.rollback(back):
                raise NudgeError(f"the grammar cannot be followed: {_line(self._matcher.get_error())}")
            del self._read[shared:], self._counts[shared:]
        for token, part in zip(tokens[shared:], parts[shared:], strict=True):
            ids = [token] if isinstance(token, int) and part else self._vocabulary.tokenize_bytes(part)
            read = self._matcher.try_consume_tokens(ids) if ids else 0
            if read < len(ids):
                if read:
                    self._matcher.rollback(read)
                return False
            self._read.append(part)
            self._counts.append(read)
        return True


def byte_matcher(grammar: Grammar) -> Any:
    """llguidance's matcher of a grammar, whose tokens are the 256 bytes."""
    library = _library()
    return library.LLMatcher(_byte_vocabulary(), grammar.source, log_level=0)


@cache
def _byte_vocabulary() -> Any:
    library = _library()
    return library.LLTokenizer(library.TokenizerWrapper(_Bytes()), n_vocab=257, eos_token=[256])


class _Bytes:
    """The smallest tokenizer that writes everything."""

    tokens = [*(bytes([byte]) for byte in range(256)), b""]  # noqa: RUF012
    special_token_ids = [256]  # noqa: RUF012
    eos_token_id = 256
    bos_token_id = None

    def __call__(self, text: str) -> list[int]:
        return list(text.encode())


class _Words:
    """A tokenizer as llguidance asks for one: what each id writes, to the byte."""

    def __init__(self, tokenizer: Tokenizer, ends: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self.tokens = [tokenizer.bytes_of(token) for token in range(tokenizer.size)]
        self.special_token_ids = [token for token, written in enumerate(self.tokens) if not written]
        self.eos_token_id = ends[0]
        self.bos_token_id = None

    def __call__(self, text: str) -> list[int]:
        return self._tokenizer.encode_inside(text)


def _library() -> Any:
    try:
        import llguidance
    except ImportError:
        raise RuntimeMissingError(
            "grammars need llguidance, which is not installed; pip install 'nudge-onnx[grammar]'"
        ) from None
    return llguidance


def _line(reason: object) -> str:
    text = " ".join(str(reason).split())
    return text if len(text) <= 200 else text[:200] + "..."
