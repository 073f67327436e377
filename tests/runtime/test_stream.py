"""How a stream ends before its time: closed by whoever, interrupted, or failed."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator

import pytest
from pairs import Pair

from nudge_onnx import Answer, NudgedLM, NudgeError
from nudge_onnx.errors import LogitsError, ProviderError
from nudge_onnx.runtime.choosing.gates import Softmax
from nudge_onnx.runtime.stream import Stream

SECONDS = 60


@pytest.fixture(scope="module")
def lm(tiny_word_pair: Pair) -> Iterator[NudgedLM]:
    with NudgedLM.load(tiny_word_pair.bundle) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def whole(lm: NudgedLM) -> Answer:
    return lm.generate("the cat", gate=never, max_new_tokens=40)


def never(_softmax: Softmax, _gamma: float) -> bool:
    return False


def idle(lm: NudgedLM) -> int:
    return len(lm.pool.idle)


class Stop:
    """A gate that stands still in the middle of an answer until it is told to go on."""

    def __init__(self, after: int) -> None:
        self.left = after
        self.reached = threading.Event()
        self.go_on = threading.Event()

    def __call__(self, _softmax: Softmax, _gamma: float) -> bool:
        self.left -= 1
        if self.left == 0:
            self.reached.set()
            assert self.go_on.wait(SECONDS)
        return False


@pytest.mark.parametrize("stop", [None, "never said"])
@pytest.mark.parametrize("after", [1, 2, 9])
def test_another_thread_may_close_a_stream_that_is_at_work(
    lm: NudgedLM, whole: Answer, after: int, stop: str | None
) -> None:
    gate = Stop(after)
    stream = lm.stream("the cat", gate=gate, max_new_tokens=40, stop=stop)
    pieces: list[object] = []
    reader = threading.Thread(target=lambda: pieces.extend(stream))
    reader.start()
    assert gate.reached.wait(SECONDS)
    free = idle(lm)
    decoders = [reader.decoder for reader in lm.pool.lent]
    passes = sum(decoder.passes for decoder in decoders)
    stream.close()
    assert stream.answer.finish_reason == "cancelled"
    stream.close()
    gate.go_on.set()
    reader.join(SECONDS)
    assert not reader.is_alive()
    assert idle(lm) == free + 1
    assert sum(decoder.passes for decoder in decoders) == passes
    assert stream.answer.finish_reason == "cancelled"
    assert stream.answer.error is None
    assert tuple(pieces) == stream.answer.pieces
    assert list(stream) == []
    assert lm.generate("the cat", gate=never, max_new_tokens=40).pieces == whole.pieces


def test_another_thread_may_close_a_stream_that_waits(lm: NudgedLM, whole: Answer) -> None:
    stream = lm.stream("the cat", gate=never, max_new_tokens=40)
    first = next(stream)
    free = idle(lm)
    closer = threading.Thread(target=stream.close)
    closer.start()
    closer.join(SECONDS)
    assert idle(lm) == free + 1
    assert list(stream) == []
    assert stream.answer.pieces == (first,)
    assert lm.generate("the cat", gate=never, max_new_tokens=40).pieces == whole.pieces


def test_a_stream_that_never_began_may_be_closed(lm: NudgedLM) -> None:
    free = idle(lm)
    stream = lm.stream("the cat")
    stream.close()
    assert list(stream) == []
    assert idle(lm) == free


def test_closing_from_many_threads_at_once_gives_the_caches_back_once(lm: NudgedLM, whole: Answer) -> None:
    for after in range(1, 12):
        stream = lm.stream("the cat", gate=never, max_new_tokens=40)
        threads = [threading.Thread(target=stream.close) for _ in range(4)]
        for _ in zip(range(after), stream, strict=False):
            pass
        for thread in threads:
            thread.start()
        for _ in stream:
            pass
        for thread in threads:
            thread.join(SECONDS)
        assert not lm.pool.lent
    assert lm.generate("the cat", gate=never, max_new_tokens=40).pieces == whole.pieces


def test_a_gate_may_close_its_own_stream(lm: NudgedLM, whole: Answer) -> None:
    streams: list[Stream] = []

    def close(_softmax: Softmax, _gamma: float) -> bool:
        streams[0].close()
        return False

    streams.append(lm.stream("the cat", gate=close, max_new_tokens=40))
    assert len(list(streams[0])) <= 1
    assert streams[0].answer.finish_reason == "cancelled"
    assert not lm.pool.lent
    assert lm.generate("the cat", gate=never, max_new_tokens=40).pieces == whole.pieces


def test_two_threads_cannot_read_one_stream(lm: NudgedLM) -> None:
    gate = Stop(2)
    stream = lm.stream("the cat", gate=gate, max_new_tokens=20)
    answers: list[Answer] = []
    reader = threading.Thread(target=lambda: answers.append(read(stream)))
    reader.start()
    assert gate.reached.wait(SECONDS)
    with pytest.raises(NudgeError, match="read by another thread"):
        next(stream)
    gate.go_on.set()
    reader.join(SECONDS)
    alone = lm.generate("the cat", gate=never, max_new_tokens=20)
    assert (answers[0].pieces, answers[0].finish_reason) == (alone.pieces, alone.finish_reason)


def read(stream: Stream) -> Answer:
    for _ in stream:
        pass
    return stream.answer


@pytest.mark.parametrize(
    ("error", "finish", "reason"),
    [
        (LogitsError("the base model returned nan logits"), "error", "the base model returned nan logits"),
        (ProviderError("it\nfailed"), "error", "it failed"),
        (MemoryError(), "error", "MemoryError"),
        (ValueError("two\nlines"), "error", "ValueError: two lines"),
        (KeyboardInterrupt(), "cancelled", None),
    ],
)
@pytest.mark.parametrize("after", [0, 3])
def test_a_stream_that_failed_says_why(
    lm: NudgedLM, whole: Answer, error: BaseException, finish: str, reason: str | None, after: int
) -> None:
    left = [after]

    def failing(_softmax: Softmax, _gamma: float) -> bool:
        left[0] -= 1
        if left[0] < 0:
            raise error
        return False

    stream = lm.stream("the cat", gate=failing, max_new_tokens=40)
    with pytest.raises(type(error)):
        read(stream)
    assert list(stream) == []
    stream.close()
    answer = stream.answer
    assert (answer.finish_reason, answer.error) == (finish, reason)
    assert json.loads(json.dumps(answer.to_dict()))["error"] == reason
    assert not lm.pool.lent
    assert lm.generate("the cat", gate=never, max_new_tokens=40).pieces == whole.pieces


def test_an_answer_that_ended_by_itself_has_no_error(whole: Answer) -> None:
    assert (whole.finish_reason, sum(whole.tokens.values())) == ("length", 40)
    assert whole.error is None
