"""Answers of JSON that are whole although their tokens are spent."""

from __future__ import annotations

from collections.abc import Callable

from ..choosing.closing import Closing
from .loop import Pieces
from .results import Piece, SourceName

__all__ = ["closed_in_time"]

# So many tokens before the limit it is asked, after each piece, what the end would take.
_WATCHED = 512


def closed_in_time(
    pieces: Pieces, closing: Closing, limit: int, source: SourceName, encode: Callable[[str], list[int]]
) -> Pieces:
    """`pieces`, ended while what closes the document still fits into `limit` tokens.

    What closes it is one more piece, in tokens of `encode`, without probabilities. Where pieces end at a limit or a
    repetition, they are closed, too.
    """
    written = 0
    text, rest = _fitting(closing, limit, encode) if limit < _WATCHED else (None, [])

    def closed() -> Pieces:
        if text:
            yield Piece(text, source, tuple(rest), (None,) * len(rest))
        return "length"

    try:
        while True:
            try:
                piece = next(pieces)
            except StopIteration as end:
                if end.value in ("length", "repetition"):
                    yield from closed()
                return end.value  # type: ignore[no-any-return]
            count = written + len(piece.token_ids)
            known = closing.read(piece.text)
            if limit - count < _WATCHED:
                found, ids = _fitting(closing, limit - count, encode) if known else (None, [])
                if found is None and text is not None:
                    return (yield from closed())
                text, rest = found, ids
            written = count
            yield piece
    finally:
        pieces.close()


def _fitting(closing: Closing, most: int, encode: Callable[[str], list[int]]) -> tuple[str | None, list[int]]:
    """What closes the document in at most so many tokens, and its ids; `None` if nothing does."""
    rest = closing.rest()
    ids = [] if rest is None else encode(rest)
    return (rest, ids) if len(ids) <= most else (None, [])
