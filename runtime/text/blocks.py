"""Blocks of a prompt: which of its positions are read in passes of one size, and which as an answer is read.

What a pass caches of a position may depend on how many rows it has. So that one prompt is cached in one way, whatever
of it a cache held before, a prompt is parted by itself alone: where 128 positions from a multiple of 128 on are fit for
it they are read in one pass, and all else is read in steps, as answers are.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from .templates import Message

__all__ = ["BLOCK", "answer_spans", "blocks_of", "whole_blocks"]

BLOCK = 128


def blocks_of(count: int) -> range:
    """The blocks that `count` positions fill."""
    return range(count // BLOCK)


def whole_blocks(settled: int, offsets: Sequence[tuple[int, int]], answers: Collection[tuple[int, int]]) -> list[int]:
    """The blocks that are read in one pass: all of their ids are settled, and none is of an earlier answer.

    `settled` ids stay what they are whatever text follows the prompt. `offsets` are the characters of each id, and
    `answers` the characters of the answers; those were read in steps when they were written, and so are found again.
    """
    return [
        block for block in blocks_of(settled) if not _touches(offsets[block * BLOCK : (block + 1) * BLOCK], answers)
    ]


def answer_spans(text: str, messages: Sequence[Message]) -> list[tuple[int, int]]:
    """Where a rendered prompt has the contents of messages of role assistant, each behind the message before it."""
    return list(_spans(text, messages))


def _spans(text: str, messages: Sequence[Mapping[str, str]]) -> Iterator[tuple[int, int]]:
    at = 0
    for message in messages:
        content = message["content"].strip()  # templates trim
        start = text.find(content, at) if content else -1
        if start >= 0:
            at = start + len(content)
            if message["role"] == "assistant":
                yield start, at


def _touches(offsets: Sequence[tuple[int, int]], spans: Collection[tuple[int, int]]) -> bool:
    return any(start < last and first < end for start, end in spans for first, last in offsets)
