"""On the real pair, in three precisions: reading ahead gives the same token ids, sources and ends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from real import EVERY, real_bundle

from nudge_onnx import NudgedLM

SUBJECTS = (
    "the sea", "a bicycle", "photosynthesis", "an old clock", "chess", "the moon", "a good friend", "bread", "a storm",
    "the number 7",
)  # fmt: skip
TASKS = (
    "Explain {} to a child.",
    "List three facts about {}.",
    "Write two lines of a poem about {}.",
    "Is {} useful? Answer yes or no, and say why.",
    "Translate to French: I like {}.",
)
PROMPTS = [task.format(subject) for task in TASKS for subject in SUBJECTS]


@pytest.fixture(scope="module", params=["int8", "int4", *(["fp32"] if EVERY == 1 else [])])
def lm(request: pytest.FixtureRequest) -> Iterator[NudgedLM]:
    with NudgedLM.load(real_bundle(request.param)) as loaded:
        yield loaded


@pytest.mark.real
def test_reading_ahead_changes_nothing_on_fifty_prompts(lm: NudgedLM) -> None:
    assert len(PROMPTS) == 50
    wrote = {"base": 0, "nudge": 0}
    for number, prompt in enumerate(PROMPTS[::EVERY]):
        plain = lm.generate(prompt, speculation="off", max_new_tokens=20)
        for mode in ("auto", 8) if number % 5 == 0 else ("auto",):
            ahead = lm.generate(prompt, speculation=mode, max_new_tokens=20)
            assert ahead.pieces == plain.pieces, (prompt, mode)
            assert ahead.finish_reason == plain.finish_reason
        for source, count in plain.tokens.items():
            wrote[source] += count
    # Both models speak, or the comparison would say little.
    assert min(wrote.values()) > 100 // EVERY


@pytest.mark.real
@pytest.mark.parametrize(
    "variant", [{"tail": "lazy"}, {"gate": "bet", "gamma": 0.45}, {"gate": "margin", "gamma": 0.2}]
)
def test_nor_with_another_tail_or_gate(lm: NudgedLM, variant: dict[str, Any]) -> None:
    wrote = {"base": 0, "nudge": 0}
    for prompt in PROMPTS[:: 5 * EVERY]:
        plain = lm.generate(prompt, speculation="off", max_new_tokens=20, **variant)
        for mode in ("auto", "entropy", 8):
            ahead = lm.generate(prompt, speculation=mode, max_new_tokens=20, **variant)
            assert ahead.pieces == plain.pieces, (prompt, mode)
            assert ahead.finish_reason == plain.finish_reason
        for source, count in plain.tokens.items():
            wrote[source] += count
    assert min(wrote.values()) > 0
