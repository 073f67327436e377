"""On the real pair: an answer is the same to the last bit alone and among others, long and short, some cancelled."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from real import EVERY, real_bundle

from nudge_onnx import Answer, NudgedLM
from nudge_onnx.runtime.system.memory import return_freed_memory

SENTENCE = "A cache is copied into its slot when its text first shares a pass. "
PROMPTS = [
    f"{'Summarise this. ' * (number > 8)}{SENTENCE * (number % 16)}What is {number} + {number}?" for number in range(64)
]
TOKENS = 20


@pytest.fixture(scope="module", params=["int8", "int4"])
def lm(request: pytest.FixtureRequest) -> Iterator[NudgedLM]:
    with NudgedLM.load(real_bundle(request.param)) as loaded:
        yield loaded


@pytest.mark.real
def test_sixty_four_prompts_have_the_answers_that_they_have_alone(lm: NudgedLM) -> None:
    if not all(lm.batches.values()):
        pytest.skip("no two texts share passes on this processor")
    prompts = PROMPTS[::EVERY]

    def write(number: int) -> Answer:
        # With and without reading ahead; every seventh has a neighbour that is cancelled on its way.
        if number % 7 == 0:
            with lm.stream(f"{number} is cancelled", max_new_tokens=TOKENS) as stream:
                next(stream)
        speculation = ("auto", "off", 4)[number % 3]
        return lm.generate(prompts[number], max_new_tokens=TOKENS, speculation=speculation)

    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(write, range(len(prompts))))
    assert lm.scheduler.shared_rows > 2 * lm.scheduler.passes
    lm.pool.clear()
    for prompt, among in zip(prompts, together, strict=True):
        alone = lm.generate(prompt, max_new_tokens=TOKENS)
        assert among.pieces == alone.pieces, prompt
        assert among.finish_reason == alone.finish_reason
    assert threading.active_count() < 20


@pytest.mark.real
@pytest.mark.slow
def test_memory_ends_where_it_began_after_many_answers(lm: NudgedLM) -> None:
    """Two thousand answers, every fifth cancelled; with NUDGE_TEST_EVERY a part of them.

    ONNX Runtime keeps what the passes of each size took: that is all there after some hundred answers.
    """
    if EVERY > 1 and lm.bundle.manifest.models["base"].precision != "int8":
        pytest.skip("a part of the tests: one precision")

    def write(number: int) -> None:
        with lm.stream(f"Say {number}", max_new_tokens=2 + number % 5, mode=("nudge", "base")[number % 2]) as stream:
            for _ in stream:
                if number % 5 == 0:
                    return

    def resident() -> int:
        lm.pool.clear()
        return_freed_memory()
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(status.split("RssAnon:")[1].split()[0]) << 10

    def many(count: int) -> None:
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(write, range(count)))

    many(600)
    before = resident()
    many(2000 // EVERY)
    assert resident() - before < 32 << 20
    assert lm.scheduler.at_work == 0
    assert lm.pool.lent == ()
