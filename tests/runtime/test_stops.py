from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nudge_onnx.runtime.nudging.loop import Pieces
from nudge_onnx.runtime.nudging.results import Piece
from nudge_onnx.runtime.nudging.stops import cut_at_stops


def stream(texts: Iterable[str]) -> Pieces:
    """Pieces whose ids are the characters' code points."""
    for text in texts:
        yield Piece(text, "base", tuple(map(ord, text)), (0.5,) * len(text))
    return "length"


def run(texts: Iterable[str], stops: list[str]) -> tuple[list[Piece], str]:
    pieces: list[Piece] = []
    source = cut_at_stops(stream(texts), stops, lambda _, i: chr(i).encode())
    while True:
        try:
            pieces.append(next(source))
        except StopIteration as end:
            return pieces, end.value


@given(
    st.lists(st.text("ab\n", max_size=4), max_size=8),
    st.lists(st.text("ab\n", min_size=1, max_size=3), min_size=1, max_size=3),
)
def test_text_ends_before_the_first_stop_string(texts: list[str], stops: list[str]) -> None:
    whole, found = "", []
    for text in texts:
        # Looked for after each append: an earlier stop string may only end in the next.
        whole += text
        found = [whole.find(stop) for stop in stops if stop in whole]
        if found:
            break
    pieces, finish = run(texts, stops)
    assert "".join(piece.text for piece in pieces) == (whole[: min(found)] if found else whole)
    assert finish == ("stop" if found else "length")
    assert all(piece.text == "".join(map(chr, piece.token_ids)) for piece in pieces)


def test_only_what_may_begin_a_stop_string_is_held_back() -> None:
    source = cut_at_stops(stream(["one", " tw", "o END", "three"]), ["END!"], lambda _, i: chr(i).encode())
    assert next(source).text == "one"
    assert next(source).text == " tw"
    assert next(source).text == "o END"  # came only after "three" showed that it is none


def test_the_source_is_closed_when_the_reader_leaves() -> None:
    closed = []

    def source() -> Pieces:
        try:
            yield Piece("a", "base", (97,), (0.5,))
            yield Piece("b", "base", (98,), (0.5,))
        finally:
            closed.append(True)
        return "length"

    pieces = cut_at_stops(source(), ["z"], lambda _, _i: b"")
    next(pieces)
    pieces.close()
    assert closed == [True]


@pytest.mark.parametrize("texts", [["x<"], ["x", "<"]])
def test_the_end_flushes_what_was_held_back(texts: list[str]) -> None:
    pieces, finish = run(texts, ["<end>"])
    assert ("".join(piece.text for piece in pieces), finish) == ("x<", "length")


def test_ids_that_write_less_than_their_text_end_the_search() -> None:
    def source() -> Pieces:
        # A tokenizer that normalises spells a text anew with fewer characters, or with none at all.
        yield Piece("ab cd", "nudge", (1, 2), (None, None))
        return "length"

    for written in (b"", b"x"):
        pieces = cut_at_stops(source(), ["d"], lambda _, _i, written=written: written)
        assert next(pieces) == Piece("ab c", "nudge", (1, 2), (None, None))
        with pytest.raises(StopIteration, match="stop"):
            next(pieces)


def test_a_piece_without_ids_may_be_cut() -> None:
    def source() -> Pieces:
        yield Piece("abc", "nudge", (), ())
        return "length"

    assert next(cut_at_stops(source(), ["c"], lambda _, _i: b"")) == Piece("ab", "nudge", (), ())
