"""Pairs that are exported once and shared by all tests."""

from __future__ import annotations

import pytest
from pairs import Pair, token_pair, wide_pair, word_pair


@pytest.fixture(scope="session")
def tiny_word_pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Two families and two tokenizers."""
    return word_pair(tmp_path_factory.mktemp("word_pair"))


@pytest.fixture(scope="session")
def tiny_token_pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """One vocabulary, and many bytes that are half a character."""
    return token_pair(tmp_path_factory.mktemp("token_pair"))


@pytest.fixture(scope="session")
def tiny_wide_pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """A base model with wide heads."""
    return wide_pair(tmp_path_factory.mktemp("wide_pair"))
