"""Which caches an answer gets, what they keep between answers, and when they are freed."""

from __future__ import annotations

import gc
import mmap
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pairs import Pair
from real import real_bundle

from nudge_onnx import NudgedLM, NudgeError
from nudge_onnx.runtime.choosing.gates import Softmax
from nudge_onnx.runtime.choosing.sampling import Sampling


@pytest.fixture
def lm(tiny_token_pair: Pair) -> Iterator[NudgedLM]:
    with NudgedLM.load(tiny_token_pair.bundle) as loaded:
        yield loaded


def never(_softmax: Softmax, _gamma: float) -> bool:
    return False


def buffers(lm: NudgedLM) -> int:
    """Bytes of the KV caches alone, of all sets."""
    return sum(reader.decoder.cache.nbytes for readers in lm.pool.idle for reader in readers.values())


@pytest.mark.parametrize(
    "options",
    [
        {"gate": never, "speculation": 16},
        {"sampling": Sampling(temperature=1)},
        {"mode": "ensemble"},
        {"speculation": 16},
    ],
)
def test_caches_that_lie_idle_keep_caches_and_nothing_else(lm: NudgedLM, options: dict[str, Any]) -> None:
    with lm.stream("the cat sat", max_new_tokens=40, **options) as stream:
        next(stream)
        if "sampling" in options or "mode" in options or "gate" in options:
            row = min(model.vocabulary_size for model in lm.bundle.manifest.models.values()) * 4
            lent = lm.pool.lent
            assert lm.pool.nbytes >= sum(reader.decoder.cache.nbytes for reader in lent) + len(lent) * row
    assert lm.pool.nbytes == buffers(lm) > 0


def test_rows_that_are_remembered_count_while_they_are(lm: NudgedLM) -> None:
    used = []
    with lm.stream("the cat", mode="ensemble", max_new_tokens=20) as stream:
        for _ in stream:
            used.append(lm.pool.nbytes)
    row = lm.bundle.manifest.models["base"].vocabulary_size * 4
    assert used[-1] - used[0] >= 10 * row


def test_the_limit_holds_for_what_is_kept(tiny_token_pair: Pair) -> None:
    prompts = [f"{word} cat sat on the mat" for word in ("a", "the", "no", "old", "men", "time")]
    with NudgedLM.load(tiny_token_pair.bundle) as lm:
        lm.generate(prompts[0], max_new_tokens=4, gate=never)
        one = lm.pool.nbytes
    with NudgedLM.load(tiny_token_pair.bundle) as lm:
        lm.pool.limit = 2 * one
        for prompt in prompts:
            lm.generate(prompt, max_new_tokens=4, gate=never, speculation=16)
            assert lm.pool.nbytes <= 2 * one


@pytest.mark.parametrize("mode", ["nudged", "base"])
def test_a_short_prompt_asked_again_finds_its_caches(lm: NudgedLM, mode: str) -> None:
    prompt = "the cat sat on the mat, so the dog ran"
    for seed in range(6):
        options: dict[str, Any] = {"sampling": Sampling(temperature=1, seed=seed), "mode": mode}
        lm.generate(prompt, max_new_tokens=60, **options)
        assert len(lm.pool.idle) == 1
    assert lm.generate(prompt, mode="base", max_new_tokens=1).timings.fed["base"] == 1


def test_a_short_prompt_leaves_a_long_conversation_alone(lm: NudgedLM) -> None:
    long = [{"role": "user", "content": "the cat sat on the mat and the dog ran to town " * 6}]
    lm.generate(long, max_new_tokens=4)
    lm.generate("the cat", max_new_tokens=4)
    assert len(lm.pool.idle) == 2
    assert lm.generate(long, mode="base", max_new_tokens=1).timings.fed["base"] == 1


def test_a_conversation_that_goes_on_finds_its_caches_though_another_began_alike(lm: NudgedLM) -> None:
    first = [{"role": "user", "content": "the cat sat on the mat and the dog ran to town " * 4}]
    answer = lm.generate(first, max_new_tokens=12)
    lm.generate("old men", max_new_tokens=12)
    turn = [*first, {"role": "assistant", "content": answer.text}, {"role": "user", "content": "so"}]
    assert lm.generate(turn, max_new_tokens=1).timings.fed["base"] < answer.timings.fed["base"] / 2
    assert len(lm.pool.idle) == 2


def test_closing_frees_the_sessions_and_caches_at_once(tiny_token_pair: Pair) -> None:
    lm = NudgedLM.load(tiny_token_pair.bundle)
    lm.generate("the cat", max_new_tokens=12, gate=never)
    kept = [weakref.ref(graph.session) for graph in lm.models.values()]
    kept += [weakref.ref(reader) for readers in lm.pool.idle for reader in readers.values()]
    kept += [weakref.ref(tokenizer) for tokenizer in lm.tokenizers.values()]
    assert all(one() is not None for one in kept)
    gc.disable()
    try:
        lm.close()
        assert [one() for one in kept] == [None] * len(kept)
    finally:
        gc.enable()
    lm.close()
    assert lm.providers == {}
    with pytest.raises(NudgeError, match="closed"):
        lm.stream("the cat")


@pytest.mark.real
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_closing_gives_the_memory_of_a_real_pair_back() -> None:
    with NudgedLM.load(real_bundle("int8")) as lm:
        lm.generate("hello", max_new_tokens=4)
        loaded = resident()
    assert loaded - resident() > 300 << 20


def resident() -> int:
    """Bytes of physical memory that this process holds."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * mmap.PAGESIZE


def test_a_stream_on_its_way_ends_and_then_frees_what_it_holds(tiny_token_pair: Pair) -> None:
    lm = NudgedLM.load(tiny_token_pair.bundle)
    whole = lm.generate("the cat", max_new_tokens=30, gate=never, stop="never said")
    kept = [weakref.ref(graph.session) for graph in lm.models.values()]
    begun = lm.stream("the cat", max_new_tokens=30, gate=never, stop="never said")
    waiting = lm.stream("the cat")
    next(begun)
    lm.close()
    with pytest.raises(NudgeError, match="closed"):
        next(waiting)
    for _ in begun:
        pass
    assert begun.answer.pieces == whole.pieces
    gc.collect()
    assert [one() for one in kept] == [None] * len(kept)
