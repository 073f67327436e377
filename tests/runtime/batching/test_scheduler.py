"""Whose turn it is: faults stay where they are, and whoever is slow holds up nobody."""

from __future__ import annotations

import _thread
import gc
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from opened import loaded
from pairs import Pair

from nudge_onnx import NudgedLM
from nudge_onnx.errors import NudgeError, ProviderError
from nudge_onnx.runtime.batching.batch import Batch
from nudge_onnx.runtime.batching.requests import PassRequest
from nudge_onnx.runtime.choosing.gates import Softmax
from nudge_onnx.runtime.inference.decoder import Decoder
from nudge_onnx.runtime.sessions.creation import create_session
from nudge_onnx.runtime.sessions.model_session import Breaker

SECONDS = 60


def in_thread(work: Callable[[], Any]) -> Callable[[], Any]:
    """Start `work`; what is returned waits for it and gives back what it returned."""
    found: list[Any] = []

    def run() -> None:
        try:
            found.append(work())
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()

    def result() -> Any:
        thread.join(SECONDS)
        assert not thread.is_alive()
        return found[0]

    return result


class Held:
    """A gate that stands still at its first call until it is told to go on."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.go_on = threading.Event()

    def __call__(self, softmax: Softmax, gamma: float) -> bool:
        self.reached.set()
        assert self.go_on.wait(SECONDS)
        return softmax.top1 >= gamma


def one_that_waits(lm: NudgedLM) -> tuple[Held, Callable[[], Any], Callable[[], Any]]:
    """An answer that stands still at its gate, and a second one that has to wait for it: results of both."""
    gate = Held()
    first = in_thread(lambda: lm.generate("the cat", gate=gate, max_new_tokens=5))
    assert gate.reached.wait(SECONDS)
    second = lm.stream("old men", max_new_tokens=5)
    waiting = in_thread(lambda: list(second))
    time.sleep(0.2)
    assert second.answer.timings.fed == {}
    return gate, first, waiting


def test_a_slow_gate_holds_up_nobody(lm: NudgedLM) -> None:
    gate = Held()
    slow = in_thread(lambda: lm.generate("the cat", gate=gate, max_new_tokens=5))
    assert gate.reached.wait(SECONDS)
    others = [in_thread(lambda: lm.generate("old men", max_new_tokens=20)) for _ in range(3)]
    texts = [other().text for other in others]
    gate.go_on.set()
    slow()
    assert texts == [lm.generate("old men", max_new_tokens=20).text] * 3


def test_a_caller_who_takes_his_time_holds_up_nobody(codes: Path) -> None:
    with NudgedLM.load(codes, threads=1, slots=2) as lm:
        paused = [lm.stream("the cat", max_new_tokens=30) for _ in range(2)]
        for stream in paused:
            next(stream)
        # There is no slot left, and nobody at work who would leave one.
        assert lm.generate("old men", max_new_tokens=8).text
        assert [len(stream.answer.pieces) for stream in paused] == [1, 1]
        for stream in paused:
            assert list(stream)


def test_answers_beyond_the_slots_wait_for_them(codes: Path) -> None:
    with NudgedLM.load(codes, threads=1, slots=1) as lm:
        gate, first, waiting = one_that_waits(lm)
        # One that waits can be cancelled, too.
        third = lm.stream("so be it", max_new_tokens=5)
        cancelled = in_thread(lambda: list(third))
        time.sleep(0.1)
        third.close()
        assert cancelled() == []
        gate.go_on.set()
        assert first().text
        assert waiting()


def test_caches_beyond_the_memory_wait_for_it(codes: Path) -> None:
    with NudgedLM.load(codes, threads=1, cache_mib=0) as lm:
        gate, first, waiting = one_that_waits(lm)
        gate.go_on.set()
        assert first().text
        assert waiting()


def test_a_stream_that_is_cancelled_leaves_its_slot(lm: NudgedLM) -> None:
    streams = [lm.stream("the cat", max_new_tokens=400, mode="base") for _ in range(3)]
    results = [in_thread(lambda stream=stream: list(stream)) for stream in streams]
    while lm.scheduler.at_work < 3:
        time.sleep(0.001)
    streams[0].close()
    results[0]()
    assert streams[0].answer.finish_reason == "cancelled"
    for stream in streams[1:]:
        stream.close()
    for result in results:
        result()
    assert lm.scheduler.at_work == 0
    assert lm.pool.lent == ()


def test_a_pass_that_fails_is_tried_by_each_text_alone(lm: NudgedLM, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = lm.generate("old men", max_new_tokens=20, mode="base").text
    tried = []

    def run(_self: Batch, *_arguments: object) -> None:
        tried.append(1)
        raise ProviderError("no memory for so many")

    monkeypatch.setattr(Batch, "run", run)
    results = [in_thread(lambda: lm.generate("old men", max_new_tokens=20, mode="base")) for _ in range(3)]
    assert [result().text for result in results] == [wanted] * 3
    assert tried


def test_what_fails_in_a_session_fails_each_text_with_one_line(codes: Path) -> None:
    broken = threading.Event()

    def create(*arguments: Any) -> Any:
        session = create_session(*arguments)

        class Session:
            def __getattr__(self, name: str) -> Any:
                return getattr(session, name)

            def run_with_iobinding(self, *bound: Any) -> None:
                if broken.is_set():
                    raise RuntimeError("the device is gone")
                session.run_with_iobinding(*bound)

        return Session()

    with loaded(codes, create) as lm:
        lm.generate("the cat", max_new_tokens=3)
        broken.set()
        results = [in_thread(lambda: lm.generate("the cat", max_new_tokens=20)) for _ in range(3)]
        for result in results:
            error = result()
            assert isinstance(error, ProviderError)
            assert "the device is gone" in str(error)
        broken.clear()
        assert lm.generate("the cat", max_new_tokens=3).text


def test_an_interrupt_ends_the_answer_of_its_thread_alone(lm: NudgedLM) -> None:
    wanted = lm.generate("old men", max_new_tokens=300, mode="base").text
    others = [in_thread(lambda: lm.generate("old men", max_new_tokens=300, mode="base")) for _ in range(2)]
    timer = threading.Timer(0.1, _thread.interrupt_main)
    timer.start()

    def until_interrupted() -> None:
        for _ in range(1000):
            lm.generate("so be it", max_new_tokens=300, mode="base")

    with pytest.raises(KeyboardInterrupt):
        until_interrupted()
    timer.join()
    assert [other().text for other in others] == [wanted] * 2
    assert lm.generate("old men", max_new_tokens=300, mode="base").text == wanted


def test_streams_on_their_way_end_after_a_close(codes: Path) -> None:
    lm = NudgedLM.load(codes, threads=1)
    results = [in_thread(lambda: lm.generate("the cat", max_new_tokens=200, mode="base")) for _ in range(3)]
    while lm.scheduler.at_work < 3:
        time.sleep(0.001)
    lm.close()
    assert len({result().text for result in results}) == 1
    with pytest.raises(NudgeError, match="closed"):
        lm.generate("the cat")


def test_the_thread_ends_when_nobody_shares_the_machine(lm: NudgedLM) -> None:
    lm.generate_batch(["the cat", "old men", "so be it"], max_new_tokens=10)

    def at_work() -> bool:
        return any(thread.name == "nudge-onnx passes" for thread in threading.enumerate())

    until = time.monotonic() + SECONDS
    while at_work() and time.monotonic() < until:
        time.sleep(0.05)
    assert not at_work()
    gc.collect()
    assert len(lm.generate_batch(["the cat", "old men"], max_new_tokens=10)) == 2


def test_one_slot_is_one_answer_at_a_time(codes: Path) -> None:
    with NudgedLM.load(codes, threads=1, slots=1) as lm:
        assert lm.batches == {"base": False, "nudge": False}
        assert len(lm.generate_batch(["the cat", "old men"], max_new_tokens=10)) == 2
        assert lm.scheduler.passes == 0


@pytest.mark.parametrize("slots", [0, 65, 2.0, True])
def test_slots_have_a_range(codes: Path, slots: Any) -> None:
    with pytest.raises(NudgeError, match="slots must be an integer between 1 and 64"):
        NudgedLM.load(codes, slots=slots)


def test_a_long_pass_is_broken_off_for_the_beginning_of_an_answer_and_read_again(
    lm: NudgedLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = "the cat sat on a mat and dog ran to town " * 12
    wanted = lm.generate(long, max_new_tokens=10).text
    lm.pool.clear()
    broken: list[bool] = []
    run = PassRequest.run

    def watched(request: PassRequest, breaker: Breaker | None = None) -> bool:
        if breaker is not None and not request.broken_off:
            # As if somebody had come in the middle of it.
            breaker.use()
        ended = run(request, breaker)
        broken.append(not ended)
        return ended

    monkeypatch.setattr(PassRequest, "run", watched)
    assert lm.generate(long, max_new_tokens=10).text == wanted
    assert broken.count(True) >= 2
    assert not broken[-1]


@pytest.mark.parametrize(("most", "sizes"), [(1024, [1000]), (512, [512, 488]), (300, [300, 300, 300, 100])])
def test_ids_are_read_in_passes_of_so_many(
    lm: NudgedLM, monkeypatch: pytest.MonkeyPatch, most: int, sizes: list[int]
) -> None:
    found = []

    def run(self: Decoder, ids: list[int], first: int, last: int) -> np.ndarray:
        found.append(len(ids))
        self.cache.advance(None, len(ids))
        return np.zeros((last - first, 1), np.float32)

    monkeypatch.setattr(Decoder, "run_pass", run)
    model = lm.models["nudge"]
    record = replace(model.record, context_length=1000, prompt_rows=None)
    Decoder(replace(model, record=record, rows="all"), pass_rows=most).feed([5] * 1000)
    assert found == sizes


def test_a_pass_reads_no_more_of_a_text_than_it_may(tiny_word_pair: Pair) -> None:
    prompt = "the cat sat on a mat and dog ran to town " * 8
    with NudgedLM.load(tiny_word_pair.bundle, threads=1) as lm:
        whole = lm.generate(prompt, max_new_tokens=8)
    with NudgedLM.load(tiny_word_pair.bundle, threads=1, pass_rows=16) as lm:
        parts = lm.generate(prompt, max_new_tokens=8)
    assert parts.pieces == whole.pieces
    assert parts.timings.passes["base"] > whole.timings.passes["base"] + 3
    with pytest.raises(NudgeError, match="pass_rows must be an integer between 16 and 4096"):
        NudgedLM.load(tiny_word_pair.bundle, pass_rows=1)
