"""The oracle itself, with scripted models whose answers can be read off the page."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import pairwise

import pytest
from oracle import (
    OracleAnswer,
    OracleModel,
    OraclePiece,
    agrees,
    bytes_begun,
    loops,
    merged,
    oracle,
    whole_characters,
    word_hand_overs,
)
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

END = "<end>"
MUTE = "<mute>"
CERTAIN, UNSURE = 0.9, 0.1

Plan = Callable[[bytes], tuple[str, float]]
"""From what was written behind the prompt to the next token, as text, and its probability."""


def alphabet() -> list[str]:
    return sorted(pre_tokenizers.ByteLevel.alphabet())


def byte_level(words: Iterable[str] = ()) -> Tokenizer:
    """A byte-level tokenizer with a token for each byte and each word."""
    spell = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    vocabulary = {char: number for number, char in enumerate(alphabet())}
    merges: list[tuple[str, str]] = []
    for word in words:
        spelled = "".join(part for part, _ in spell.pre_tokenize_str(word))
        starts = [spelled[:n] for n in range(1, len(spelled) + 1)]
        for shorter, longer in pairwise(starts):
            if longer not in vocabulary:
                vocabulary[longer] = len(vocabulary)
                merges.append((shorter, longer[-1]))
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = spell
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(END, special=True), AddedToken(MUTE, special=True)])
    return tokenizer


def scripted(plan: Plan, words: Iterable[str] = (), prompt: str = "Q:") -> OracleModel:
    """A model that looks only at what stands behind its prompt. A one-byte token may be given as `<0xNN>`."""
    tokenizer = byte_level(words)
    special = tokenizer.get_added_tokens_decoder()
    asked = len(prompt.encode())

    def forward(ids: tuple[int, ...]) -> tuple[int, float]:
        token, probability = plan(model.bytes_of(ids)[asked:])
        return number_of(model, token), probability

    end = {number for number, token in special.items() if token.content == END}
    model = OracleModel(forward, tokenizer, frozenset(end), prompt)
    return model


def number_of(model: OracleModel, token: str) -> int:
    special = model.tokenizer.token_to_id(token)
    if special is not None:
        return int(special)
    if token.startswith("<0x"):
        raw = bytes.fromhex(token[3:5])
        return next(number for number, written in model.written.items() if written == raw)
    ids = model.encode_plain(token)
    assert len(ids) == 1, f"{token!r} is {len(ids)} tokens"
    return ids[0]


def writes(target: str, tokens: Iterable[str], probability: float = CERTAIN) -> Plan:
    """Goes on towards `target` with the longest of its tokens, and ends behind it."""

    def plan(written: bytes) -> tuple[str, float]:
        rest = target.encode().removeprefix(written).decode()
        return (max((t for t in tokens if rest.startswith(t)), key=len) if rest else END), probability

    return plan


def says(table: dict[str, tuple[str, float]], otherwise: tuple[str, float] = ("?", UNSURE)) -> Plan:
    return lambda written: table.get(written.decode(errors="replace"), otherwise)


def always(token: str, probability: float = UNSURE) -> Plan:
    return lambda _written: (token, probability)


def ask(base: OracleModel, nudge: OracleModel, **options: object) -> OracleAnswer:
    settings = {"gamma": 0.5, "policy": "word", "draft_tokens": 16, "max_new_tokens": 100, **options}
    return oracle(base, nudge, **settings)  # type: ignore[arg-type]


def shares(answer: OracleAnswer) -> list[tuple[str, str]]:
    return [(piece.source, piece.text) for piece in answer.pieces]


# --- helpers


@pytest.mark.parametrize(
    ("text", "before"),
    [
        ("one two three", ["one", "one two"]),
        ("  one two", ["  one"]),
        (" one", []),
        ("one", []),
        ("one ", []),
        ("one  two", ["one "]),
        ("one   two", ["one  "]),
        ("one\ntwo three", ["one\ntwo"]),
        ("one \ntwo", ["one"]),
        ("one two ", ["one"]),
        ("", []),
        ("   ", []),
        ("é\u3000ü ß", ["é\u3000ü"]),
    ],
)
def test_a_checkpoint_stands_before_the_space_of_every_word_but_the_first(text: str, before: list[str]) -> None:
    raw = text.encode()
    assert [raw[:place].decode() for place in word_hand_overs(raw)] == before


@pytest.mark.parametrize(
    ("token", "rest", "expected"),
    [
        (" two", " two three", True),
        ("two", " two", True),
        (" tw", " two", True),
        (" two three", " two", False),
        ("\n", " two", False),
        ("", " two", False),
        (" Two", " two", False),
    ],
)
def test_agreement_is_a_prefix_without_blanks(token: str, rest: str, expected: bool) -> None:
    assert agrees(token, rest) is expected


@pytest.mark.parametrize(
    ("raw", "text", "begun"),
    [
        ("né".encode(), "né", 0),
        (b"n\xc3", "n", 1),
        (b"n\xe2\x82", "n", 2),
        (b"n\xa9", "n\ufffd", 0),
        (b"\xe2\x82n", "\ufffdn", 0),
        (b"\xe2\x82\xf0", "\ufffd", 1),
        (b"\xf5", "\ufffd", 0),
    ],
)
def test_only_a_begun_character_is_left_out(raw: bytes, text: str, begun: int) -> None:
    assert (whole_characters(raw), bytes_begun(raw)) == (text, begun)


def test_a_loop_is_more_than_five_words_that_stand_earlier() -> None:
    assert loops("so a b c d e f and", " a b c d e f")
    assert not loops("so a b c d e and", " a b c d e")
    assert not loops("so a b c  d e f and", " a b c d e f")


def test_neighbours_of_one_source_are_one_piece() -> None:
    pieces = [("base", "a", (1,)), ("base", "b", (2, 3)), ("nudge", "", ()), ("base", "c", (4,)), ("nudge", "d", (5,))]
    assert merged(pieces) == [OraclePiece("base", "abc", (1, 2, 3, 4)), OraclePiece("nudge", "d", (5,))]


# --- tokenizers


def test_special_tokens_are_recognised_in_the_prompt_only() -> None:
    tokenizer = byte_level()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{MUTE} $A", special_tokens=[(MUTE, tokenizer.token_to_id(MUTE))]
    )
    end, mute = tokenizer.token_to_id(END), tokenizer.token_to_id(MUTE)
    model = OracleModel(lambda _ids: (0, 0.0), tokenizer, frozenset({end}), f"a{END}b", add_bos=True)
    ids = model.encode_after_prompt(END)
    assert (ids[0], ids[2]) == (mute, end)
    assert model.bytes_of(ids) == f"ab{END}".encode()
    assert len(ids) == len(f"ab{END}") + 2


def test_bytes_of_a_sentencepiece_tokenizer() -> None:
    vocabulary = {"<unk>": 0, "<0xE2>": 1, "\u2581two": 2, "\u2581": 3, "t": 4, "w": 5, "o": 6}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True))
    tokenizer.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens(["<unk>"])
    model = OracleModel(lambda _ids: (0, 0.0), tokenizer, frozenset())
    assert model.bytes_of([0, 1, 2, 3, 99]) == b"\xe2 two "


def test_text_behind_a_special_token_is_not_marked_as_the_start_of_a_string() -> None:
    vocabulary = {"<unk>": 0, "\u2581": 1, "a": 2, "\n": 3, END: 4}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens([END])
    model = OracleModel(lambda _ids: (0, 0.0), tokenizer, frozenset({4}), f"a{END}a")
    assert tokenizer.encode(model.prompt).ids == [1, 2, 4, 2]
    assert model.encode_after_prompt(" a") == (1, 2, 4, 2, 1, 2)


# --- the loop


WORDS = [" one", " two", " three", " four", " five", "one", "two"]


def test_the_answer_is_the_draft_where_the_base_model_never_takes_over() -> None:
    nudge = scripted(writes("one two three four", WORDS), WORDS)
    answer = ask(scripted(always("?")), nudge, draft_tokens=3)
    assert shares(answer) == [("nudge", "one two three four")]
    assert answer.finish_reason == "stop"


def test_a_draft_that_ended_is_not_asked_about() -> None:
    nudge = scripted(writes("one two", WORDS), WORDS)
    answer = ask(scripted(always("?", CERTAIN)), nudge)
    assert (answer.text, answer.finish_reason) == ("one two", "stop")


def test_a_draft_of_one_word_is_appended_whole() -> None:
    nudge = scripted(writes("one two three", WORDS), WORDS)
    answer = ask(scripted(always("?", CERTAIN)), nudge, draft_tokens=1)
    assert answer.text == "one two three"


def test_the_base_model_takes_over_at_the_first_checkpoint_where_it_is_certain() -> None:
    base = scripted(says({"one two": (" five", CERTAIN), "one two five": (" four", UNSURE)}), WORDS)
    nudge = scripted(says({"": ("one", 1), "one": (" two", 1), "one two": (" three", 1)}, (END, 1)), WORDS)
    answer = ask(base, nudge, draft_tokens=3)
    assert shares(answer) == [("nudge", "one two"), ("base", " five")]
    assert answer.finish_reason == "stop"


def test_the_base_model_takes_over_where_it_agrees_and_its_token_is_appended() -> None:
    base = scripted(says({"one": (" t", UNSURE), "one t": ("?", UNSURE)}), [*WORDS, " t"])
    nudge = scripted(says({"": ("one", 1), "one": (" two", 1), "one t": ("w", 1)}, (END, 1)), WORDS)
    answer = ask(base, nudge, draft_tokens=2)
    assert shares(answer) == [("nudge", "one"), ("base", " t"), ("nudge", "w")]


def test_blank_tokens_do_not_agree() -> None:
    base = scripted(says({"one": (" ", UNSURE)}), WORDS)
    nudge = scripted(writes("one two", WORDS), WORDS)
    assert shares(ask(base, nudge, draft_tokens=2)) == [("nudge", "one two")]


def test_an_end_token_of_the_base_model_hands_over() -> None:
    base = scripted(says({"one": (END, CERTAIN)}, (END, CERTAIN)), WORDS)
    nudge = scripted(writes("one two three", WORDS), WORDS)
    answer = ask(base, nudge, draft_tokens=2)
    assert (shares(answer), answer.finish_reason) == ([("nudge", "one two three")], "stop")


def test_the_last_word_of_a_draft_is_not_appended_with_it() -> None:
    asked: list[str] = []

    def plan(written: bytes) -> tuple[str, float]:
        asked.append(written.decode())
        return "?", UNSURE

    nudge = scripted(writes("one two three four", WORDS), WORDS)
    ask(scripted(plan, WORDS), nudge, draft_tokens=3)
    # The second draft is " three four" and reaches the end of the answer in its third step.
    assert asked == ["one", "one two"]


def test_a_draft_cut_inside_a_token_counts_as_its_text_encoded() -> None:
    nudge = scripted(writes("one two three", ["one two three"]), ["one two three", "one", " two"])
    answer = ask(scripted(says({"one": ("!", CERTAIN)}), WORDS), nudge, max_new_tokens=2, draft_tokens=1)
    assert shares(answer) == [("nudge", "one"), ("base", "!")]
    assert answer.pieces[0].ids == nudge.encode_plain("one")


def test_a_draft_cut_between_a_begun_character_and_a_space_counts_as_its_text_encoded() -> None:
    # It is the space that makes the byte before it U+FFFD.
    table = {b"": "x", b"x": "<0xE2>", b"x\xe2": " two"}
    nudge = scripted(lambda written: (table.get(written, END), 1), WORDS)
    base = scripted(says({"x\ufffd": ("!", CERTAIN)}))
    answer = ask(base, nudge, draft_tokens=3)
    assert shares(answer) == [("nudge", "x\ufffd"), ("base", "!")]
    assert answer.pieces[0].ids == nudge.encode_plain("x\ufffd")


def test_repetition_ends_before_the_fourth_of_the_same_offers() -> None:
    base = scripted(lambda written: ("!", CERTAIN if written.endswith(b"one") else UNSURE), WORDS)
    nudge = scripted(lambda written: (" two" if written.endswith(b"one") else " one", 1), WORDS)
    answer = ask(base, nudge, draft_tokens=2)
    assert (answer.text, answer.finish_reason) == (" one! one! one!", "repetition")


def test_a_loop_of_the_base_model_hands_over() -> None:
    words = [f" {char}" for char in "abcdefghijklmnop"]
    circle = dict(zip(words, [*words[1:], words[0]], strict=True))

    def plan(written: bytes) -> tuple[str, float]:
        return circle.get(written[-2:].decode(), words[0]), CERTAIN

    nudge = scripted(says({"": ("x", 1), "x": (" y", 1)}, (END, 1)), [" y"])
    answer = ask(scripted(plan, words), nudge, draft_tokens=2)
    # Sixteen new words, then sixteen that stand in T before them.
    assert shares(answer) == [("nudge", "x"), ("base", "".join(words) * 2)]
    assert answer.finish_reason == "stop"


def test_a_loop_of_few_words_goes_on() -> None:
    nudge = scripted(says({"": ("x", 1), "x": (" y", 1)}, (END, 1)), [" y"])
    answer = ask(scripted(always("!", CERTAIN)), nudge, draft_tokens=2)
    assert (answer.text, answer.finish_reason) == ("x" + "!" * 99, "length")


@pytest.mark.parametrize(("limit", "text", "reason"), [(2, "one two", "length"), (3, "one two three", "stop")])
def test_an_appended_draft_is_cut_at_the_last_token_allowed(limit: int, text: str, reason: str) -> None:
    answer = ask(scripted(always("?")), scripted(writes("one two three", WORDS), WORDS), max_new_tokens=limit)
    assert (answer.text, answer.finish_reason) == (text, reason)


def test_a_draft_goes_on_to_the_end_of_its_character() -> None:
    table = {b"": "x", b"x": "<0xE2>", b"x\xe2": "<0x82>", b"x\xe2\x82": "<0xAC>"}
    nudge = scripted(lambda written: (table.get(written, END), 1))
    answer = ask(scripted(always("?")), nudge, draft_tokens=2)
    assert (answer.text, answer.finish_reason) == ("x€", "stop")
    assert len(answer.pieces[0].ids) == 4


def test_the_base_model_completes_its_character_though_it_is_not_certain() -> None:
    table = {b"x": ("<0xC3>", CERTAIN), b"x\xc3": ("<0xA9>", UNSURE)}
    nudge = scripted(says({"": ("x", 1), "x": (" y", 1)}, (END, 1)), [" y"])
    answer = ask(scripted(lambda written: table.get(written, ("?", UNSURE))), nudge, draft_tokens=2)
    assert shares(answer) == [("nudge", "x"), ("base", "é")]


def test_a_character_that_the_base_model_does_not_complete_is_dropped() -> None:
    table = {b"x": ("<0xC3>", CERTAIN), b"x\xc3": (END, UNSURE)}
    nudge = scripted(lambda written: ({b"": "x"}.get(written, " y"), 1), [" y"])
    answer = ask(scripted(lambda written: table.get(written, ("?", UNSURE))), nudge, draft_tokens=2, max_new_tokens=4)
    assert answer.text.startswith("x y")
    assert number_of(nudge, "<0xC3>") not in answer.pieces[0].ids


def test_what_stands_before_a_dropped_character_in_its_token_stays() -> None:
    base = scripted(always("?"), [" \u20ac"])
    number = next(number for number, written in base.written.items() if written == b" \xe2\x82")
    end = base.tokenizer.token_to_id(END)

    def forward(ids: tuple[int, ...]) -> tuple[int, float]:
        return (end, UNSURE) if ids[-1] == number else (number, CERTAIN)

    nudge = scripted(says({"": ("x", 1), "x": (" y", 1)}, (END, 1)), [" y"])
    answer = ask(replace(base, forward=forward), nudge, draft_tokens=2)
    assert shares(answer) == [("nudge", "x"), ("base", " ")]


def test_text_never_ends_in_half_a_character() -> None:
    table = {b"": "x", b"x": "<0xC3>", b"x\xc3": "<0xA9>"}
    nudge = scripted(lambda written: (table.get(written, END), 1))
    answer = ask(scripted(always("?")), nudge, max_new_tokens=2)
    assert (answer.text, answer.finish_reason) == ("x", "length")


def test_an_invalid_byte_is_a_replacement_character() -> None:
    nudge = scripted(says({"": ("<0x80>", 1)}, (END, 1)))
    assert ask(scripted(always("?")), nudge).text == "\ufffd"


def test_a_special_token_that_ends_nothing_writes_nothing() -> None:
    calls: list[bytes] = []

    def plan(written: bytes) -> tuple[str, float]:
        calls.append(written)
        return ["x", MUTE, END][len(calls) - 1], 1

    answer = ask(scripted(always("?")), scripted(plan))
    assert (answer.text, len(answer.pieces[0].ids)) == ("x", 2)


def test_a_special_token_in_the_answer_is_text() -> None:
    nudge = scripted(writes(f"x{END}y", [*"x<end>y"]))
    assert ask(scripted(always("?")), nudge, draft_tokens=2).text == f"x{END}y"


@pytest.mark.parametrize(
    ("stop", "text"), [([" two"], "one"), (["o th", "ne"], "o"), (["e t"], "on"), (["four!"], None)]
)
def test_text_ends_before_a_stop_string(stop: list[str], text: str | None) -> None:
    nudge = scripted(writes("one two three", WORDS), WORDS)
    answer = ask(scripted(always("?")), nudge, draft_tokens=2, stop=stop)
    assert (answer.text, answer.finish_reason) == (text or "one two three", "stop")


def test_a_token_that_a_stop_string_cuts_is_the_last() -> None:
    nudge = scripted(writes("one two three", WORDS), WORDS)
    answer = ask(scripted(always("?")), nudge, draft_tokens=3, stop=["wo"])
    assert answer.pieces == [("nudge", "one t", (number_of(nudge, "one"), number_of(nudge, " two")))]


def test_a_stop_string_may_stand_in_two_pieces() -> None:
    base = scripted(says({"one two": (" five", CERTAIN)}), WORDS)
    nudge = scripted(says({"": ("one", 1), "one": (" two", 1), "one two": (" three", 1)}, (END, 1)), WORDS)
    answer = ask(base, nudge, draft_tokens=3, stop=["two f"])
    assert (shares(answer), answer.finish_reason) == ([("nudge", "one ")], "stop")


def test_policy_token_asks_before_every_token_but_the_first() -> None:
    asked: list[str] = []

    def plan(written: bytes) -> tuple[str, float]:
        asked.append(written.decode())
        return "?", CERTAIN if written == b"thr" else UNSURE

    nudge = scripted(lambda written: ([*"three", END][min(len(written), 5)], 1))
    answer = ask(scripted(plan), nudge, policy="token", draft_tokens=4, max_new_tokens=4)
    assert asked == ["t", "th", "thr"]
    assert shares(answer) == [("nudge", "thr"), ("base", "?")]


def test_policy_token_never_appends_the_last_token_of_a_draft_with_it() -> None:
    nudge = scripted(lambda written: ([*"three", END][min(len(written), 5)], 1))
    asked: list[bytes] = []

    def plan(written: bytes) -> tuple[str, float]:
        asked.append(written)
        return "?", UNSURE

    assert ask(scripted(plan), nudge, policy="token", draft_tokens=3).text == "three"
    assert asked == [b"t", b"th", b"thr", b"thre"]


def test_policy_token_passes_ids_over_unchanged() -> None:
    # Encoded anew, "one" would be one token.
    seen: list[tuple[int, ...]] = []
    nudge = scripted(lambda written: ([*"one", " two", END][min(len(written), 4)], 1), WORDS)
    base = scripted(always("?"), WORDS)

    def forward(ids: tuple[int, ...]) -> tuple[int, float]:
        seen.append(ids)
        return base.forward(ids)

    ask(replace(base, forward=forward), nudge, policy="token", draft_tokens=3)
    letters = tuple(number_of(base, char) for char in "on")
    assert seen[1] == base.encode_plain("Q:") + letters


def test_policy_token_skips_places_inside_a_character() -> None:
    asked: list[bytes] = []

    def plan(written: bytes) -> tuple[str, float]:
        asked.append(written)
        return "?", UNSURE

    table = {b"": "<0xC3>", b"\xc3": "<0xA9>", "é".encode(): "x"}
    nudge = scripted(lambda written: (table.get(written, END), 1))
    ask(scripted(plan), nudge, policy="token", draft_tokens=3)
    assert asked == ["é".encode()]
