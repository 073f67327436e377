"""On the real pair: an answer is the same to the last bit alone and among others, long and short, some cancelled."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from real import EVERY, part, real_bundle

from nudge_onnx import Answer, NudgedLM

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
@pytest.mark.parametrize("precision", part(["int8", "int4"]))
def test_memory_does_not_grow_with_answers(precision: str) -> None:
    # In a process of its own: what other tests have left in the heap of this one moves with every answer.
    count = max(2400 // EVERY, 800)
    command = [sys.executable, "-m", "tests.real_soak", str(real_bundle(precision)), str(count)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    # ONNX Runtime takes more where texts meet in a pass of a size that was not there yet: now and then, not each time.
    # As many bytes an answer as 32 MiB in 2,000; fewer answers show less.
    most = (32 << 20) * EVERY * (count // 4) // 2000
    assert min(map(int, done.stdout.split())) < most, done.stdout
