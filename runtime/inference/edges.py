"""Where a pass must end so that its rows are computed as each would be by itself.

Some kernels are chosen by the number of positions before a pass, or behind it. A pass that ends at these edges is on
one side of each of them, with all of its rows.
"""

from __future__ import annotations

from collections.abc import Sequence

from nudge_onnx.bundle import ModelRecord

__all__ = ["Edges", "whole_reach"]

# ONNX Runtime's matrix product sums a row longer than 128 in one go or in two halves, depending on whether the last
# block of 128 columns is at most half full. In attention over floats the rows are heads and the columns positions, so
# with wide heads a pass must stay within 64 positions for its logits not to depend on where it ends.
_WIDE_HEAD = 128
_SEGMENT = 64

# Attention with a window reads a copy of the cache when a text is longer than twice the window and a block. The copy
# begins at the last multiple of a block that is no later than what the first row of the pass sees.
_BLOCK = 128


def _last_near(window: int) -> int:
    """The most positions of a text of which attention with a window still reads the cache whole."""
    return 2 * window + _BLOCK


def whole_reach(record: ModelRecord) -> int:
    """Positions up to which the attention of every layer reads its cache from the beginning."""
    return min([record.context_length, *map(_last_near, record.windows or ())])


class Edges:
    """The edges of one graph: positions at which a new pass begins."""

    def __init__(self, record: ModelRecord, widths: Sequence[int] = ()) -> None:
        """`widths` are positions from which on passes have a wider mask."""
        self._widths = widths
        self.segmented = record.cache.head_size > _WIDE_HEAD and record.cache.dtype != "int8"
        """Whether attention adds up in another order on both sides of some of them."""
        self._windows = [(window, _last_near(window)) for window in record.windows or ()]

    def between(self, past: int, end: int) -> list[int]:
        """Edges behind `past` and before `end` positions, ascending."""
        found = {at for first, step in self._rows(past) for at in range(first, end, step)}
        return sorted(found.union(at for at in self._widths if past < at < end))

    def ends_at(self, position: int) -> bool:
        """Whether a pass may not reach beyond `position`, not even with a row that is rewound."""
        if self.segmented and position % _SEGMENT == 0:
            return True
        return any(position == edge for _, edge in self._windows)

    def _rows(self, past: int) -> list[tuple[int, int]]:
        """Rows of edges, each by its first one behind `past` and its step."""
        found = []
        if self.segmented:
            found.append((past + _SEGMENT - past % _SEGMENT, _SEGMENT))
        for window, edge in self._windows:
            if past < edge:
                found.append((edge, 1 << 62))
            near = max(past, edge)
            found.append((near + _BLOCK - (near - window + 1) % _BLOCK, _BLOCK))
        return found
