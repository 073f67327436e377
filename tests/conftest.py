"""Pairs that are exported once and shared by all tests."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kept import kept
from pairs import Pair, token_pair, wide_pair, word_pair


def _kept(make: Callable[[Path], Pair], folder: Path) -> Pair:
    folder = kept(make.__name__, make, folder)
    return Pair(folder / "bundle", folder / "base", folder / "nudge")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test, nor what it starts, reads or writes what the user's cache folder remembers."""
    before = os.environ.get("NUDGE_ONNX_CACHE")
    os.environ["NUDGE_ONNX_CACHE"] = str(tmp_path_factory.mktemp("user-cache"))
    yield
    del os.environ["NUDGE_ONNX_CACHE"]
    if before is not None:
        os.environ["NUDGE_ONNX_CACHE"] = before


@pytest.fixture(scope="session")
def tiny_word_pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Two families and two tokenizers."""
    return _kept(word_pair, tmp_path_factory.mktemp("word_pair"))


@pytest.fixture(scope="session")
def tiny_token_pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """One vocabulary, and many bytes that are half a character."""
    return _kept(token_pair, tmp_path_factory.mktemp("token_pair"))


@pytest.fixture(scope="session")
def tiny_wide_pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """A base model with wide heads."""
    return _kept(wide_pair, tmp_path_factory.mktemp("wide_pair"))
