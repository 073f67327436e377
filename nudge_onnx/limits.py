"""How much is done at a time, for commands and library alike. Imports nothing: who reads a manifest should not wait."""

from __future__ import annotations

__all__ = ["CACHE_MIB", "MOST_SLOTS", "SLOTS"]

SLOTS, MOST_SLOTS = 8, 64
"""Answers that are written at a time, by default and at most."""
CACHE_MIB = 512
"""MiB of KV caches by default."""
