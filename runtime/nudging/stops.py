"""Stop strings: the answer ends before the first one, and a stream never shows the beginning of one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .loop import Pieces
from .results import Piece
from .transcript import to_text

__all__ = ["cut_at_stops"]


def cut_at_stops(pieces: Pieces, stops: Sequence[str], bytes_of: Callable[[Piece, int], bytes]) -> Pieces:
    """`pieces`, held back where they may begin a stop string, and ended before the first one (`stop`).

    `bytes_of(piece, id)` gives the bytes of a token of `piece`.
    """
    waiting: list[Piece] = []
    try:
        while True:
            try:
                waiting.append(next(pieces))
            except StopIteration as end:
                yield from waiting
                return end.value  # type: ignore[no-any-return]
            text = "".join(piece.text for piece in waiting)
            found = min((at for at in (text.find(stop) for stop in stops) if at >= 0), default=-1)
            if found >= 0:
                yield from _before(waiting, found, bytes_of)
                return "stop"
            safe = len(text) - _begun(text, stops)
            while waiting and len(waiting[0].text) <= safe:
                safe -= len(waiting[0].text)
                yield waiting.pop(0)
    finally:
        pieces.close()


def _begun(text: str, stops: Sequence[str]) -> int:
    """Length of the longest end of `text` that begins a stop string."""
    return max(
        (n for stop in stops for n in range(1, min(len(stop) - 1, len(text)) + 1) if text.endswith(stop[:n])),
        default=0,
    )


def _before(pieces: Sequence[Piece], end: int, bytes_of: Callable[[Piece, int], bytes]) -> list[Piece]:
    """The first `end` characters of `pieces`, with the tokens that it took to write them."""
    kept = []
    for piece in pieces:
        if end <= 0:
            break
        if len(piece.text) > end:
            tokens = _tokens_of(end, [bytes_of(piece, i) for i in piece.token_ids])
            piece = Piece(
                piece.text[:end], piece.source, piece.token_ids[:tokens], piece.top1[:tokens], piece.logprobs[:tokens]
            )
        kept.append(piece)
        end -= len(piece.text)
    return kept


def _tokens_of(chars: int, written: Sequence[bytes]) -> int:
    """How many of the tokens, at least one, it takes for so many characters; all, where all write fewer."""
    for tokens in range(1, len(written)):
        if len(to_text(b"".join(written[:tokens]))[0]) >= chars:
            return tokens
    # Ids of a text that a tokenizer normalises may write less than the text has.
    return len(written)
