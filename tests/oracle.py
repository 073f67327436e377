"""The nudging decoder a second time: slow, plain, and written from `docs/decoding.md` alone.

Nothing is shared with the runtime. There is no cache and no speculation: a model sees the whole id sequence at every
step, and every text is encoded anew. What this module and the runtime agree on is therefore the page, not each other.

One end is left out, that of a full context: `ContextReachedError` says that a case is none to compare.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

from tokenizers import Tokenizer

__all__ = ["ContextReachedError", "Forward", "OracleAnswer", "OracleModel", "OraclePiece", "merged", "oracle"]

NextToken = Callable[[tuple[int, ...]], tuple[int, float]]
"""From an id sequence to the arg-max of the next token and its probability."""

REPEATED_ROUNDS = 4
LOOP_TOKENS = 16
LOOP_WORDS = 5


class ContextReachedError(Exception):
    """A model would have to read more ids than it was made for."""


class OraclePiece(NamedTuple):
    source: Literal["base", "nudge"]
    text: str
    ids: tuple[int, ...]


@dataclass(frozen=True)
class OracleAnswer:
    text: str
    pieces: list[OraclePiece]
    """Neighbours never have the same source."""
    finish_reason: str


def merged(pieces: Iterable[tuple[str, str, Sequence[int]]]) -> list[OraclePiece]:
    """Join neighbours of one source, so that how a writer's stretch was dealt out does not matter."""
    joined: list[OraclePiece] = []
    for source, text, ids in pieces:
        if not text and not ids:
            continue
        if joined and joined[-1].source == source:
            last = joined.pop()
            text, ids = last.text + text, (*last.ids, *ids)
        joined.append(OraclePiece(source, text, tuple(ids)))  # type: ignore[arg-type]
    return joined


# --- bytes and text


def bytes_begun(raw: bytes) -> int:
    """How many bytes at the end of `raw` begin a character that is not complete."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    decoder.decode(raw)
    return len(decoder.getstate()[0])


def inside_character(raw: bytes) -> bool:
    return bytes_begun(raw) > 0


def whole_characters(raw: bytes) -> str:
    """The text of `raw` without a character that is only begun at its end."""
    return as_text(raw[: len(raw) - bytes_begun(raw)])


def as_text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _byte_alphabet() -> dict[str, int]:
    """The printable stand-ins that byte-level tokenizers write bytes with."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}


def _kinds(node: Any) -> set[str]:
    """Every `type` named in a part of a `tokenizer.json`."""
    if isinstance(node, dict):
        own = {node["type"]} if isinstance(node.get("type"), str) else set()
        return own.union(*map(_kinds, node.values()))
    if isinstance(node, list):
        return set().union(*map(_kinds, node))
    return set()


def token_bytes(tokenizer: Tokenizer) -> dict[int, bytes]:
    """What each token writes: special tokens nothing, the others their bytes."""
    description = json.loads(tokenizer.to_str())
    byte_level = "ByteLevel" in _kinds([description["decoder"], description["pre_tokenizer"]])
    alphabet = _byte_alphabet()
    added = tokenizer.get_added_tokens_decoder()
    written: dict[int, bytes] = {}
    for token, number in tokenizer.get_vocab(with_added_tokens=True).items():
        if number in added and added[number].special:
            written[number] = b""
        elif byte_level:
            # An added token is spelled in plain characters, the others in the alphabet.
            written[number] = token.encode() if number in added else bytes(alphabet[char] for char in token)
        elif len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
            written[number] = bytes([int(token[3:5], 16)])
        else:
            written[number] = token.replace("\u2581", " ").encode()
    return written


# --- a model, its tokenizer and its prompt


class Forward:
    """A Hugging Face model as a function from ids to the next token. Answers are remembered by the whole sequence."""

    def __init__(self, model: Any) -> None:
        self._model = model.eval()
        self.known: dict[tuple[int, ...], tuple[int, float]] = {}

    @classmethod
    def from_checkpoint(cls, folder: Path) -> Forward:
        import torch
        from transformers import AutoModelForCausalLM

        return cls(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32))

    def __call__(self, ids: tuple[int, ...]) -> tuple[int, float]:
        if ids not in self.known:
            self.known[ids] = self._run(ids)
        return self.known[ids]

    def _run(self, ids: tuple[int, ...]) -> tuple[int, float]:
        import torch

        with torch.inference_mode():
            read = torch.tensor([ids])
            # Without a mask, transformers spends most of a tiny model's time looking for sequences packed into one.
            mask = torch.ones_like(read)
            row = self._model(input_ids=read, attention_mask=mask, use_cache=False, logits_to_keep=1).logits[0, -1]
            probability, token = torch.softmax(row.float(), dim=-1).max(dim=-1)
        return int(token), float(probability)


@dataclass(frozen=True)
class OracleModel:
    """B or N: what it answers to ids, how it spells, what it is asked."""

    forward: NextToken
    tokenizer: Tokenizer = field(repr=False)
    end_token_ids: frozenset[int]
    prompt: str = ""
    add_bos: bool = False
    context_length: int = 1 << 30
    written: dict[int, bytes] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        if not self.written:
            self.written.update(token_bytes(self.tokenizer))

    @classmethod
    def from_checkpoint(
        cls, folder: Path, *, end_token_ids: Iterable[int], add_bos: bool = False, context_length: int = 1 << 30
    ) -> OracleModel:
        return cls(
            Forward.from_checkpoint(folder),
            Tokenizer.from_file(str(folder / "tokenizer.json")),
            frozenset(end_token_ids),
            add_bos=add_bos,
            context_length=context_length,
        )

    def prompted(self, prompt: str) -> OracleModel:
        """The same model before another prompt."""
        return replace(self, prompt=prompt)

    def next(self, ids: tuple[int, ...]) -> tuple[int, float]:
        """The arg-max of the next token, and the top-1 probability."""
        if len(ids) >= self.context_length:
            raise ContextReachedError
        return self.forward(ids)

    def bytes_of(self, ids: Iterable[int]) -> bytes:
        # An id that only pads the embedding matrix has no token, and writes nothing.
        return b"".join(self.written.get(number, b"") for number in ids)

    def encode_plain(self, text: str) -> tuple[int, ...]:
        """`encode(text)` where nothing is a special token."""
        return tuple(self._plain.encode(text, add_special_tokens=False).ids)

    def encode_after_prompt(self, text: str) -> tuple[int, ...]:
        """`encode(P + text)`: the prompt's special tokens are special, those of `text` are not."""
        head, rest, marked = self._split_prompt
        if not marked:
            return self._prefix + head + self.encode_plain(rest + text)
        newline = len(self.encode_plain("\n"))
        return self._prefix + head + self.encode_plain("\n" + rest + text)[newline:]

    def encode_inside(self, text: str) -> tuple[int, ...]:
        """The ids of a text that does not start a string."""
        if not self._marks_start:
            return self.encode_plain(text)
        return self.encode_plain("\n" + text)[len(self.encode_plain("\n")) :]

    @cached_property
    def _marks_start(self) -> bool:
        return self.bytes_of(self.encode_plain("a")).startswith(b" ")

    @cached_property
    def _plain(self) -> Tokenizer:
        plain = Tokenizer.from_str(self.tokenizer.to_str())
        plain.encode_special_tokens = True
        return plain

    @cached_property
    def _split_prompt(self) -> tuple[tuple[int, ...], str, bool]:
        """The ids of the prompt up to and with its last special token, the text behind it, and whether that text
        alone would get other ids, because the tokenizer marks where a string starts."""
        encoding = self.tokenizer.encode(self.prompt, add_special_tokens=False)
        added = self.tokenizer.get_added_tokens_decoder()
        special = [n for n, number in enumerate(encoding.ids) if number in added and added[number].special]
        if not special:
            return (), self.prompt, not self.prompt and self._marks_start
        count = special[-1] + 1
        rest = self.prompt[encoding.offsets[special[-1]][1] :]
        marked = self.encode_plain(rest) != tuple(encoding.ids[count:]) if rest else self._marks_start
        return tuple(encoding.ids[:count]), rest, marked

    @cached_property
    def _prefix(self) -> tuple[int, ...]:
        """What the tokenizer itself puts before a text."""
        if not self.add_bos:
            return ()
        encoding = self.tokenizer.encode("a", add_special_tokens=True)
        return tuple(encoding.ids[: encoding.special_tokens_mask.index(0)])


# --- drafts and hand-over points


@dataclass(frozen=True)
class Draft:
    writer: OracleModel
    ids: tuple[int, ...]
    ended: bool
    """N reached its end token."""

    @cached_property
    def raw(self) -> bytes:
        return self.writer.bytes_of(self.ids)

    def rest(self, at: int) -> str:
        """The text behind a place."""
        return as_text(self.raw[at:])


def word_hand_overs(raw: bytes) -> list[int]:
    """Places, in bytes, before the space in front of every word but the first. A space is one byte in UTF-8."""
    places: list[int] = []
    words_seen = 0
    start = 0
    for word in raw.split(b" "):
        if word:
            words_seen += 1
            if words_seen > 1:
                places.append(start - 1)
        start += len(word) + 1
    return places


def token_hand_overs(draft: Draft) -> list[int]:
    """How many tokens of the draft stand before each hand-over point."""
    return [n for n in range(1, len(draft.ids)) if not inside_character(draft.writer.bytes_of(draft.ids[:n]))]


def ids_of_start(writer: OracleModel, ids: Sequence[int], text: str) -> tuple[int, ...]:
    """The ids of `text`, which `ids` begin to spell: theirs, or those of `text` alone if it ends inside a token.

    Bytes that may still become a character are no text yet: where they turn out to begin none, it is the next token
    that makes them U+FFFD, and a cut between the two is a cut inside that token.
    """
    for count in range(len(ids), -1, -1):
        raw = writer.bytes_of(ids[:count])
        if as_text(raw) == text and not inside_character(raw):
            return tuple(ids[:count])
    return writer.encode_inside(text)


def agrees(token_text: str, rest: str) -> bool:
    """B's token says what the draft goes on to say."""
    spoken = token_text.strip()
    return bool(spoken) and rest.lstrip().startswith(spoken)


def loops(before: str, window: str) -> bool:
    """B's last tokens, `window`, stand in T before them already."""
    return len(window.split()) > LOOP_WORDS and window in before


# --- the answer


class _Finished(Exception):  # noqa: N818 - an end, no error
    def __init__(self, reason: str) -> None:
        self.reason = reason


@dataclass
class _Answer:
    """T, with who wrote what."""

    models: dict[str, OracleModel]
    max_new_tokens: int
    stop: tuple[str, ...]
    pieces: list[OraclePiece] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.pieces)

    @property
    def ids(self) -> tuple[int, ...]:
        return tuple(number for piece in self.pieces for number in piece.ids)

    @property
    def room(self) -> int:
        return self.max_new_tokens - len(self.ids)

    def append(self, source: Literal["base", "nudge"], ids: Sequence[int], text: str, *, tail: bool = False) -> None:
        """Add to T, at most up to `max_new_tokens`; raises `_Finished` if that, or a stop string, ends the answer."""
        cut = len(ids) > self.room
        if cut:
            ids = ids[: self.room]
            text = whole_characters(self.models[source].bytes_of(ids))
        self.pieces.append(OraclePiece(source, text, tuple(ids)))
        self._end_before_stop_string()
        if cut or (self.room == 0 and not tail):
            raise _Finished("length")

    def _end_before_stop_string(self) -> None:
        found = [place for place in map(self.text.find, self.stop) if place >= 0]
        if not found:
            return
        left = min(found)
        kept: list[OraclePiece] = []
        for piece in self.pieces:
            if len(piece.text) > left:
                text = piece.text[:left]
                kept.append(OraclePiece(piece.source, text, self._ids_before_stop(piece, text)))
                break
            kept.append(piece)
            left -= len(piece.text)
        self.pieces = kept
        raise _Finished("stop")

    def _ids_before_stop(self, piece: OraclePiece, text: str) -> tuple[int, ...]:
        """The tokens that wrote `text`; the last of them may have written more."""
        writer = self.models[piece.source]
        for count in range(len(piece.ids)):
            if whole_characters(writer.bytes_of(piece.ids[:count])).startswith(text):
                return piece.ids[:count]
        return piece.ids


# --- the loop


@dataclass
class _Decoder:
    base: OracleModel
    nudge: OracleModel
    gamma: float
    policy: str
    draft_tokens: int
    answer: _Answer
    tail: str
    gate: str

    def run(self) -> None:
        """Rounds without end; `_Finished` leaves them."""
        offers: list[str] = []
        while True:
            draft = self.draft()
            taken = None if draft.ended and self.tail == "draft" else self.hand_back(draft)
            if draft.ended and (taken is None or taken[3] is None):
                self.answer.append("nudge", draft.ids, whole_characters(draft.raw), tail=True)
                raise _Finished("stop")
            assert taken is not None
            ids, text, base_ids, first = taken
            offers.append(text)
            if len(offers) >= REPEATED_ROUNDS and len(set(offers[-REPEATED_ROUNDS:])) == 1:
                raise _Finished("repetition")
            self.answer.append("nudge", ids, text)
            if first is not None and first not in self.base.end_token_ids:
                self.base_stretch(base_ids, first)

    def received(self, model: OracleModel, draft_text: str = "", draft_ids: Sequence[int] = ()) -> tuple[int, ...]:
        """The ids of a model whose turn begins after T and the start of a draft."""
        if self.policy == "token":
            return model.encode_after_prompt("") + self.answer.ids + tuple(draft_ids)
        return model.encode_after_prompt(self.answer.text + draft_text)

    def draft(self) -> Draft:
        """Step 1."""
        before = self.received(self.nudge)
        ids: tuple[int, ...] = ()
        while len(ids) < self.draft_tokens or inside_character(self.nudge.bytes_of(ids)):
            token, _ = self.nudge.next(before + ids)
            if token in self.nudge.end_token_ids:
                return Draft(self.nudge, ids, ended=True)
            ids += (token,)
        return Draft(self.nudge, ids, ended=False)

    def hand_back(self, draft: Draft) -> tuple[tuple[int, ...], str, tuple[int, ...], int | None]:
        """Step 3: ids and text of what is accepted, and B's ids and token there if B takes over."""
        accepted = (draft.ids, as_text(draft.raw))
        for ids, text, rest in self.hand_overs(draft):
            accepted = (ids, text)
            base_ids = self.received(self.base, text, ids)
            token, probability = self.base.next(base_ids)
            certain = self.certain(probability, self.received(self.nudge, text, ids))
            if certain or (token not in self.base.end_token_ids and agrees(as_text(self.base.bytes_of([token])), rest)):
                return *accepted, base_ids, token
        return *accepted, (), None

    def hand_overs(self, draft: Draft) -> list[tuple[tuple[int, ...], str, str]]:
        """For each hand-over point the ids and the text before it, and the text behind it."""
        if self.policy == "token":
            counts = token_hand_overs(draft)
            starts = [(draft.ids[:count], len(self.nudge.bytes_of(draft.ids[:count]))) for count in counts]
        else:
            places = word_hand_overs(draft.raw)
            starts = [(ids_of_start(self.nudge, draft.ids, as_text(draft.raw[:place])), place) for place in places]
        return [(ids, as_text(draft.raw[:place]), draft.rest(place)) for ids, place in starts]

    def base_stretch(self, base_ids: tuple[int, ...], token: int) -> None:
        """Step 4, and the token that B took over with."""
        begin = self.answer.text
        stretch: tuple[int, ...] = ()
        while True:
            unit, ended = self.character(base_ids + stretch, token)
            text = whole_characters(self.base.bytes_of(unit))
            if ended:
                unit = self.without_begun_character(unit)
            self.answer.append("base", unit, text)
            stretch += unit
            if ended or self.in_loop(begin, stretch):
                return
            token, probability = self.base.next(base_ids + stretch)
            if token in self.base.end_token_ids or not self.certain(probability, self.received(self.nudge)):
                return

    def certain(self, probability: float, nudge_ids: tuple[int, ...]) -> bool:
        """What the gate says of B's top-1 probability at a place, where N would read `nudge_ids`."""
        if self.gate == "bet":
            return probability - self.nudge.next(nudge_ids)[1] >= 2 * self.gamma - 1
        return probability >= self.gamma

    def character(self, before: tuple[int, ...], token: int) -> tuple[tuple[int, ...], bool]:
        """A token of B with those that complete its character, and whether B offered its end token instead of one."""
        unit: tuple[int, ...] = (token,)
        while inside_character(self.base.bytes_of(unit)) and len(unit) < self.answer.room:
            token, _ = self.base.next(before + unit)
            if token in self.base.end_token_ids:
                return unit, True
            unit += (token,)
        return unit, False

    def without_begun_character(self, unit: tuple[int, ...]) -> tuple[int, ...]:
        """Drop the tokens that wrote nothing but bytes of the character that B left incomplete."""
        begun = bytes_begun(self.base.bytes_of(unit))
        while begun and len(written := self.base.bytes_of(unit[-1:])) <= begun:
            unit, begun = unit[:-1], begun - len(written)
        return unit

    def in_loop(self, begin: str, stretch: tuple[int, ...]) -> bool:
        """Whether B repeats itself, after a stretch of B's that began where T was `begin`."""
        if len(stretch) < LOOP_TOKENS:
            return False
        earlier, window = stretch[:-LOOP_TOKENS], stretch[-LOOP_TOKENS:]
        return loops(begin + as_text(self.base.bytes_of(earlier)), as_text(self.base.bytes_of(window)))


def oracle(
    base: OracleModel,
    nudge: OracleModel,
    *,
    gamma: float,
    policy: str,
    draft_tokens: int = 16,
    max_new_tokens: int,
    stop: Sequence[str] = (),
    tail: str = "draft",
    gate: str = "top1",
) -> OracleAnswer:
    """The answer that `docs/decoding.md` asks for: greedy, in fp32, with the gate `top1` or `bet`."""
    answer = _Answer({"base": base, "nudge": nudge}, max_new_tokens, tuple(stop))
    try:
        _Decoder(base, nudge, gamma, policy, draft_tokens, answer, tail, gate).run()
    except _Finished as finished:
        return OracleAnswer(answer.text, merged(answer.pieces), finished.reason)
    raise AssertionError("the loop has no other end")
