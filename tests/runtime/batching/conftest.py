"""Tiny pairs whose caches have eight bits: several texts share their passes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pairs import Pair, exported

from nudge_onnx import NudgedLM


@pytest.fixture(scope="session", params=["word-int8", "token-int8", "word-int4"])
def bundle(
    request: pytest.FixtureRequest,
    tiny_word_pair: Pair,
    tiny_token_pair: Pair,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    kind, precision = request.param.split("-")
    pair = tiny_word_pair if kind == "word" else tiny_token_pair
    folder = tmp_path_factory.mktemp(request.param) / "bundle"
    more = ["--policy", "token"] if kind == "token" else []
    return exported(pair.base, pair.nudge, folder, "--precision", precision, *more)


@pytest.fixture(scope="session")
def codes(tiny_word_pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("codes") / "bundle"
    return exported(tiny_word_pair.base, tiny_word_pair.nudge, folder, "--precision", "int8")


@pytest.fixture
def lm(codes: Path) -> Iterator[NudgedLM]:
    with NudgedLM.load(codes, threads=1) as loaded:
        yield loaded
