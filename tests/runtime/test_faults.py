"""Faults at every call in turn: whatever fails, the next answer of the same models is the one that fresh ones give."""

from __future__ import annotations

import linecache
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from opened import loaded
from pairs import Pair, exported
from real import EVERY

from nudge_onnx import Answer
from nudge_onnx.errors import NudgeError
from nudge_onnx.runtime.choosing.gates import Softmax
from nudge_onnx.runtime.inference import cache, decoder, inputs, outputs
from nudge_onnx.runtime.sessions import providers
from nudge_onnx.runtime.sessions.creation import CreateSession, create_session
from nudge_onnx.runtime.text.tokenizer import Tokenizer

# The second prompt keeps what it shares with the first, and grows the caches beyond their first 256 positions.
SHARED = "the cat sat on a mat and dog ran to town "
BEFORE = SHARED * 2
PROMPT = SHARED + "with old men for an hour in no time at all " * 12
SHORT_PROMPT = SHARED + "with old men"
# One answer after another in one set of caches.
LOAD: dict[str, Any] = {"threads": 1, "cache_mib": 0}
RUNTIME = str(Path(cache.__file__).parent)
# Where not all places are tried: every so many, begun with another one for each bundle. All take minutes on two slow
# cores, so CI tries a part of them.
SOME = 17
SWEEPS = [pytest.param(False, id="some"), pytest.param(True, id="all", marks=pytest.mark.slow)]


class CallbackError(Exception):
    """What a callback of a user may raise."""


@dataclass
class Faults:
    """Counts calls, and lets one of them fail: before it does anything, or when it has done it."""

    at: int | None = None
    error: type[BaseException] = MemoryError
    count: int = 0
    names: list[str] = field(default_factory=list)

    def reset(self, at: int | None, error: type[BaseException]) -> None:
        """Fail at the call of this number from now on."""
        self.at, self.error, self.count, self.names = at, error, 0, []

    def wrap(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """`call`, as two places that may fail."""

        def counted(*arguments: Any, **options: Any) -> Any:
            self._step(name)
            result = call(*arguments, **options)
            self._step(f"{name}, done")
            return result

        return counted

    def _step(self, name: str) -> None:
        self.names.append(name)
        self.count += 1
        if self.count == self.at:
            raise self.error(name)


class Counted:
    """Stands for an object whose calls of some names are counted."""

    def __init__(self, real: Any, faults: Faults, **wrapped: Callable[..., Any]) -> None:
        self.real = real
        for name, call in wrapped.items():
            setattr(self, name, faults.wrap(name, call))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


BINDS = ("bind_input", "bind_output", "bind_ortvalue_input", "bind_ortvalue_output", "get_outputs")


@contextmanager
def watched(faults: Faults) -> Iterator[None]:
    """Whatever a loaded model calls to make an answer is counted: passes, bindings, memory, and its tokenizers."""
    ort = providers.onnxruntime()
    values = Counted(ort.OrtValue, faults, ortvalue_from_numpy=ort.OrtValue.ortvalue_from_numpy)
    arrays = Counted(np, faults, empty=np.empty, zeros=np.zeros)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache, "onnxruntime", lambda: SimpleNamespace(OrtValue=values))
        patch.setattr(inputs, "masks", faults.wrap("masks", inputs.masks))
        for module in (cache, inputs, outputs):
            patch.setattr(module, "np", arrays)
        patch.setattr(cache, "keep_positions", faults.wrap("keep_positions", cache.keep_positions))
        for name in ("encode", "encode_prompt"):
            patch.setattr(Tokenizer, name, _method(faults.wrap(name, getattr(Tokenizer, name))))
        yield


def counted_sessions(faults: Faults) -> CreateSession:
    """Makes sessions whose passes and bindings are counted."""

    def binding_of(real: Any) -> Counted:
        made = real.io_binding()
        return Counted(made, faults, **{name: getattr(made, name) for name in BINDS})

    def create(*arguments: Any) -> Counted:
        real = create_session(*arguments)

        def run(binding: Counted, *options: Any) -> None:
            real.run_with_iobinding(binding.real, *options)

        return Counted(real, faults, io_binding=partial(binding_of, real), run_with_iobinding=run)

    return create


def _method(call: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, *arguments, **options: call(self, *arguments, **options)


def seen(answer: Answer) -> tuple[Any, ...]:
    """Ids and top-1 of an answer, and how it ended."""
    return answer.pieces, answer.finish_reason


class Asked:
    """One bundle, loaded and watched, and what it should answer."""

    def __init__(
        self,
        folder: Path,
        faults: Faults,
        prompt: str = PROMPT,
        create: CreateSession = create_session,
        **options: Any,
    ) -> None:
        self._faults = faults
        self._prompt = prompt
        self._options = {"max_new_tokens": 4, "draft_tokens": 4, "speculation": 3, "gamma": 0.3, **options}
        with loaded(folder, create, **LOAD) as fresh:
            self._expected = seen(fresh.generate(prompt, **self._options))
        self._lm = loaded(folder, create, **LOAD)
        self._two_answers()  # what is made once, templates for example, is made now

    def calls(self) -> list[str]:
        """The places that may fail from the first answer to the second."""
        self._faults.reset(None, MemoryError)
        self._two_answers()
        return list(self._faults.names)

    def fails_at(self, number: int, error: type[BaseException], raised: Any) -> None:
        """Let a call fail, and hold the next answer to the one that is expected."""
        self._faults.reset(number, error)
        with pytest.raises(raised):
            self._two_answers()
        place = self._faults.names[-1]
        assert self._faults.count == number, place
        self._hold_to_what_is_expected(number, place, error)

    def lines(self) -> int:
        """Lines of the runtime that are run from the first answer to the second."""
        self._faults.reset(None, MemoryError)
        with interrupted_at(0) as reached:
            self._two_answers()
        return len(reached)

    def is_interrupted_at(self, number: int) -> None:
        """Interrupt before a line, and hold the next answer to the one that is expected."""
        self._faults.reset(None, MemoryError)
        with pytest.raises(KeyboardInterrupt), interrupted_at(number) as reached:
            self._two_answers()
        self._hold_to_what_is_expected(number, reached[-1])

    def _hold_to_what_is_expected(self, *place: object) -> None:
        assert seen(self._lm.generate(self._prompt, **self._options)) == self._expected, place
        assert not self._lm.pool.lent, place

    def _two_answers(self) -> None:
        # Into caches that are made anew, so that each time the same is called.
        self._lm.pool.clear()
        self._lm.generate(BEFORE, **self._options)
        self._lm.generate(self._prompt, **self._options)


@contextmanager
def interrupted_at(number: int) -> Iterator[list[str]]:
    """Raise `KeyboardInterrupt` before the line of the runtime of this number; yields the lines that are reached."""
    reached: list[str] = []

    def in_frame(frame: FrameType, event: str, _: Any) -> Any:
        # Python looks for signals at calls and jumps: never between the last line of a `with` and its end, which is
        # a line event of its own. There a lock would stay taken.
        code = linecache.getline(frame.f_code.co_filename, frame.f_lineno).lstrip()
        if event == "line" and not code.startswith("with "):
            reached.append(f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}")
            if len(reached) == number:
                raise KeyboardInterrupt(reached[-1])
        return in_frame

    def trace(frame: FrameType, _event: str, _argument: Any) -> Any:
        return in_frame if frame.f_code.co_filename.startswith(RUNTIME) else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield reached
    finally:
        sys.settrace(before)


def numbers(last: int, kind: str, every: int) -> range:
    """One of `every` numbers from 1 to `last`."""
    return range(1 + BUNDLES.index(kind) * every // len(BUNDLES), last + 1, every)


BUNDLES = ["fp32", "int8", "wide", "growing"]


@pytest.fixture(autouse=True)
def _every_pass_takes_as_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """How far a model reads ahead depends on what its passes took: here the same is called each time."""
    monkeypatch.setattr(decoder, "time", SimpleNamespace(perf_counter=count().__next__))


@pytest.fixture(scope="module")
def bundles(tiny_word_pair: Pair, tiny_wide_pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base, nudge, folder = tiny_word_pair.base, tiny_word_pair.nudge, tmp_path_factory.mktemp("faults")
    return {
        "fp32": tiny_word_pair.bundle,
        "wide": tiny_wide_pair.bundle,
        "int8": exported(base, nudge, folder / "int8", "--precision", "int8"),
        "growing": exported(
            base, nudge, folder / "growing", "--precision", "fp32", "--no-pass", "group-query-attention"
        ),
    }


@pytest.mark.parametrize("full", SWEEPS)
@pytest.mark.parametrize("kind", BUNDLES)
def test_after_a_fault_at_any_call_the_next_answer_is_a_fresh_one(
    bundles: dict[str, Path], kind: str, full: bool
) -> None:
    faults = Faults()
    with watched(faults):
        if kind == "growing":  # by every pass, and binds all anew; from logits, where others read the uncertainty head
            asked = Asked(bundles[kind], faults, SHORT_PROMPT, counted_sessions(faults), gate="margin")
        else:
            asked = Asked(bundles[kind], faults, create=counted_sessions(faults))
        places = asked.calls()
        assert {"run_with_iobinding", "bind_input", "empty", "encode", "encode_prompt"} < set(places)
        assert ("keep_positions" in places) == (kind == "growing")
        for number in numbers(len(places), kind, EVERY if full else SOME):
            place = places[number - 1]
            # An interrupt may come at any time; all else fails before anything is done.
            failing = place == "run_with_iobinding"
            asked.fails_at(number, KeyboardInterrupt, KeyboardInterrupt)
            if not place.endswith("done"):
                asked.fails_at(number, RuntimeError if failing else MemoryError, (MemoryError, NudgeError))


@pytest.mark.parametrize("full", SWEEPS)
@pytest.mark.parametrize("kind", BUNDLES)
def test_after_a_callback_that_fails_the_next_answer_is_a_fresh_one(
    bundles: dict[str, Path], kind: str, full: bool
) -> None:
    faults = Faults()

    def certain(softmax: Softmax, gamma: float) -> bool:
        return softmax.top1 >= gamma

    asked = Asked(bundles[kind], faults, gate=faults.wrap("gate", certain))
    places = asked.calls()
    assert len(places) > 20
    for number in numbers(len(places), kind, EVERY if full else SOME):
        for error in (CallbackError, KeyboardInterrupt):
            asked.fails_at(number, error, error)


@pytest.mark.parametrize("full", SWEEPS)
@pytest.mark.parametrize("kind", BUNDLES)
def test_after_an_interrupt_at_any_line_the_next_answer_is_a_fresh_one(
    bundles: dict[str, Path], kind: str, full: bool
) -> None:
    asked = Asked(bundles[kind], Faults(), SHORT_PROMPT if kind == "growing" else PROMPT)
    lines = asked.lines()
    assert lines > 1000
    for number in numbers(lines, kind, 13 * EVERY if full else lines // 30):
        asked.is_interrupted_at(number)
