"""Passes that are recorded and replayed: the CPU runs them, behind a session that replays as a CUDA graph does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from opened import loaded
from pairs import Pair, exported
from real import real_bundle
from tiny import tiny_checkpoint

from nudge_onnx import NudgedLM
from nudge_onnx.bundle import Bundle
from nudge_onnx.errors import BundleError, ProviderError
from nudge_onnx.runtime.inference.decoder import Decoder
from nudge_onnx.runtime.inference.opening import open_model
from nudge_onnx.runtime.inference.outputs import Rows
from nudge_onnx.runtime.sessions import providers
from nudge_onnx.runtime.sessions.creation import create_session
from nudge_onnx.runtime.sessions.cuda_graphs import CudaGraphs
from nudge_onnx.runtime.sessions.model_session import ModelSession
from nudge_onnx.runtime.sessions.session import open_session

BUNDLE = Path(__file__).parent.parent / "conformance" / "bundles" / "word"
CUDA = [("cuda", {"enable_cuda_graph": True})]
IDS = [int(token) for token in np.random.default_rng(5).integers(4, 200, 400)]


class Binding:
    """Notes the values that are bound, and has nothing to bind what is only an address."""

    def __init__(self, binding: Any) -> None:
        self.real = binding
        self.inputs: dict[str, Any] = {}
        self.outputs: dict[str, Any] = {}

    def bind_ortvalue_input(self, name: str, value: Any) -> None:
        self.inputs[name] = value
        self.real.bind_ortvalue_input(name, value)

    def bind_ortvalue_output(self, name: str, value: Any) -> None:
        self.outputs[name] = value
        self.real.bind_ortvalue_output(name, value)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


class Replaying:
    """A session that replays: a run under a number it knows looks at nothing but the values bound the first time."""

    def __init__(self, real: Any) -> None:
        self._real = real
        self.recorded: dict[str, Any] = {}
        self.replays = 0
        self.unrecorded = 0

    def io_binding(self) -> Binding:
        return Binding(self._real.io_binding())

    def run_with_iobinding(self, binding: Binding, options: Any = None) -> None:
        number = "-1" if options is None else options.get_run_config_entry("gpu_graph_id")
        if number == "-1":
            self.unrecorded += 1
            self._real.run_with_iobinding(binding.real)
            return
        if number in self.recorded:
            self.replays += 1
        else:
            assert set(binding.inputs) == {one.name for one in self._real.get_inputs()}
            kept = self.recorded[number] = self._real.io_binding()
            for name, value in binding.inputs.items():
                kept.bind_ortvalue_input(name, value)
            for name, value in binding.outputs.items():
                kept.bind_ortvalue_output(name, value)
            for _ in range(2):  # it warms up and records before it replays
                self._real.run_with_iobinding(kept)
        self._real.run_with_iobinding(self.recorded[number])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def replaying(*arguments: Any) -> Replaying:
    """Makes a session that replays."""
    return Replaying(create_session(*arguments))


def recording(model: ModelSession) -> ModelSession:
    """The model with passes that are recorded."""
    return replace(model, cuda_graphs=CudaGraphs())


def decoders(bundle: Path, role: str) -> tuple[Decoder, Decoder, Replaying]:
    """A decoder that is recorded, one that is not, and the session of the first."""
    model = open_model(Bundle.open(bundle), role, ["cpu"], threads=1, create=replaying)
    replayed = model.session
    replayed.unrecorded = 0  # passes that found out which rows share bits
    return Decoder(recording(model)), Decoder(open_model(Bundle.open(bundle), role, ["cpu"], threads=1)), replayed


def equal(found: Rows, wanted: Rows) -> None:
    if isinstance(found, list):
        assert found == wanted
    else:
        np.testing.assert_array_equal(found, wanted)


def walk(step: Callable[[Decoder], Rows], both: Sequence[Decoder]) -> None:
    found, wanted = (step(decoder) for decoder in both)
    equal(found, wanted)


@pytest.fixture(scope="module")
def with_positions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """GPT-2, whose graph keeps `position_ids`."""
    folder = tmp_path_factory.mktemp("gpt2")
    checkpoint = tiny_checkpoint(folder / "checkpoint", "gpt2", chat=True)
    return exported(checkpoint, checkpoint, folder / "bundle", "--precision", "fp32")


@pytest.mark.parametrize("head", [True, False])
@pytest.mark.parametrize("role", ["base", "nudge"])
def test_a_recorded_pass_returns_what_any_pass_does(role: str, head: bool) -> None:
    *both, replayed = decoders(BUNDLE, role)
    for decoder in both:
        decoder.read(head=head)
    walk(lambda d: d.prefill(IDS[:20]), both)
    assert (replayed.unrecorded, len(replayed.recorded)) == (1, 0)
    at = 20
    for size in (1, 1, 3, 8, 1, 3, 2, 9, 1, 8):
        ids = IDS[at : at + size]
        walk(lambda d, ids=ids: d.feed(ids, rows=len(ids)), both)  # type: ignore[misc]
        at += size
    # One id is filled up to two, which are also a pass of two.
    assert (replayed.unrecorded, len(replayed.recorded), replayed.replays) == (2, 3, 6)
    for decoder in both:
        decoder.rewind(23)
    walk(lambda d: d.feed(IDS[100:103], rows=2), both)
    assert len(replayed.recorded) == 4  # as many ids, fewer rows
    walk(lambda d: d.feed(IDS[103:104]), both)


def test_a_cache_that_grows_is_recorded_anew() -> None:
    *both, replayed = decoders(BUNDLE, "base")
    walk(lambda d: d.prefill(IDS[:250]), both)
    for at in range(250, 262):
        walk(lambda d, at=at: d.feed([IDS[at]]), both)  # type: ignore[misc]
    assert (len(replayed.recorded), replayed.replays) == (2, 10)


def test_learned_positions_are_written_too(with_positions: Path) -> None:
    *both, replayed = decoders(with_positions, "base")
    walk(lambda d: d.prefill(IDS[:9]), both)
    for at in range(9, 14):
        walk(lambda d, at=at: d.feed([IDS[at]]), both)  # type: ignore[misc]
    assert replayed.replays == 4


@pytest.mark.real
@pytest.mark.parametrize("role", ["base", "nudge"])
def test_real_models_may_be_recorded(role: str) -> None:
    bundle = real_bundle("fp32")
    *both, replayed = decoders(bundle, role)
    for decoder in both:
        decoder.read(head=True)
    walk(lambda d: d.prefill(IDS[:60]), both)
    at = 60
    for size in (1, 1, 4, 1, 4, 2, 1):
        ids = IDS[at : at + size]
        walk(lambda d, ids=ids: d.feed(ids, rows=len(ids)), both)  # type: ignore[misc]
        at += size
    assert replayed.replays >= 4


@pytest.mark.parametrize("speculation", ["off", 4])
def test_answers_are_the_same(speculation: Any, tiny_word_pair: Pair) -> None:
    def pieces(lm: NudgedLM) -> list[tuple[int, ...]]:
        answers = [
            lm.generate(text, max_new_tokens=40, gamma=0.4, speculation=speculation) for text in ("the cat", "so")
        ]
        return [piece.token_ids for answer in answers for piece in answer.pieces]

    with loaded(tiny_word_pair.bundle, replaying, threads=1, change=recording) as lm:
        found = pieces(lm)
        assert all(model.session.replays > 10 for model in lm.models.values())
    with NudgedLM.load(tiny_word_pair.bundle, threads=1) as lm:
        assert pieces(lm) == found


def test_only_a_graph_without_branches_and_with_a_cache_in_place_is_recorded(
    tiny_word_pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(providers, "missing_library", lambda _: None)
    for arguments in (["--precision", "int8"], ["--target", "tensorrt", "--precision", "fp32"]):
        bundle = exported(tiny_word_pair.base, tiny_word_pair.nudge, tmp_path / arguments[-1], *arguments)
        with pytest.raises(ProviderError, match=r"^base/model\.onnx cannot be recorded by enable_cuda_graph; leave it"):
            open_model(Bundle.open(bundle), "base", CUDA)


class Pretending:
    """Makes sessions that say they run on the providers that are asked for; the CPU does the work."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[list[Any]] = []
        self.refuses: Callable[[Any], bool] = lambda _: False
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
        monkeypatch.setattr(providers, "missing_library", lambda _: None)

    def create(self, path: Path, name: str, wanted: Any, options: Any) -> Any:
        if self.refuses(wanted):
            raise BundleError("all nodes must be on CUDAExecutionProvider")
        self.asked.append(list(wanted))
        return OnCuda(create_session(path, name, [("CPUExecutionProvider", {})], options))

    def open(self, bundle: Bundle, role: str, providers: Any) -> ModelSession:
        return open_session(bundle, role, providers, create=self.create)


class OnCuda:
    """A session of the CPU that says CUDA runs all of it."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def get_providers(self) -> list[str]:
        return ["CUDAExecutionProvider"]

    def get_provider_graph_assignment_info(self) -> list[Any]:
        return []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Pretending:
    return Pretending(monkeypatch)


@pytest.fixture(scope="module")
def halves(tiny_word_pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle for CUDA in fp16."""
    output = tmp_path_factory.mktemp("halves") / "bundle"
    options = ("--target", "cuda", "--precision", "fp16")
    return Bundle.open(exported(tiny_word_pair.base, tiny_word_pair.nudge, output, *options))


def test_cuda_records_unless_it_is_told_not_to(halves: Bundle, cuda: Pretending) -> None:
    assert cuda.open(halves, "nudge", ["cuda"]).cuda_graphs is not None
    assert cuda.open(halves, "nudge", [("cuda", {"enable_cuda_graph": False})]).cuda_graphs is None
    assert [wanted[0][1] for wanted in cuda.asked] == [{"enable_cuda_graph": "1"}, {"enable_cuda_graph": "0"}]


def test_floats_of_full_size_are_not_recorded_by_themselves(cuda: Pretending) -> None:
    # CUDA has no attention for them, so that it is left to the CPU.
    assert cuda.open(Bundle.open(BUNDLE), "base", ["cuda"]).cuda_graphs is None
    assert cuda.asked == [[("CUDAExecutionProvider", {})]]


def test_what_cannot_be_recorded_runs_as_it_is(halves: Bundle, cuda: Pretending) -> None:
    cuda.refuses = lambda wanted: bool(wanted[0][1])
    model = cuda.open(halves, "nudge", ["cuda", "cpu"])
    assert (model.provider, model.cuda_graphs) == ("cuda", None)
