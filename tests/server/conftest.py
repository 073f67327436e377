from __future__ import annotations

from collections.abc import Iterator

import pytest

from nudge_onnx import NudgedLM

from .running import WORD, Running, running


@pytest.fixture(scope="package")
def lm() -> Iterator[NudgedLM]:
    with NudgedLM.load(WORD, threads=1) as loaded:
        yield loaded


@pytest.fixture(scope="package")
def server(lm: NudgedLM) -> Iterator[Running]:
    with running(lm) as found:
        yield found
