"""A provider that was asked for runs the models, or the error says what is missing."""

from __future__ import annotations

import ctypes
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from nudge_onnx import NudgedLM
from nudge_onnx.bundle import Bundle
from nudge_onnx.errors import ProviderError
from nudge_onnx.runtime.inference.decoder import Decoder
from nudge_onnx.runtime.sessions import providers, session
from nudge_onnx.runtime.sessions.providers import resolve_providers
from nudge_onnx.runtime.sessions.shared_libraries import missing_library

BUNDLE = Path(__file__).parent.parent / "conformance" / "bundles" / "word"
CUDA = "CUDAExecutionProvider"
needs_azure = pytest.mark.skipif(
    "AzureExecutionProvider" not in onnxruntime.get_available_providers(), reason="this build has no such provider"
)


def test_options_reach_onnx_runtime_as_text_in_the_form_that_it_reads() -> None:
    options = {"arena_extend_strategy": "kSameAsRequested", "device_id": 1, "use_tf32": False, "scale": 0.5}
    assert resolve_providers([("cpu", options)]) == [
        (
            "CPUExecutionProvider",
            {"arena_extend_strategy": "kSameAsRequested", "device_id": "1", "use_tf32": "0", "scale": "0.5"},
        )
    ]


def test_every_short_name_is_one_that_onnx_runtime_knows_or_knew() -> None:
    known = set(onnxruntime.get_all_providers()) | {"ROCMExecutionProvider", "NvTensorRTRTXExecutionProvider"}
    assert set(providers.PROVIDERS.values()) <= known


def test_a_captured_graph_that_would_replay_old_shapes_is_refused() -> None:
    with pytest.raises(ProviderError, match="enable_cuda_graph replays the first pass"):
        resolve_providers([("cpu", {"enable_cuda_graph": True})])
    assert resolve_providers([("cpu", {"enable_cuda_graph": False})]) == [
        ("CPUExecutionProvider", {"enable_cuda_graph": "0"})
    ]


def test_cuda_alone_may_record_and_only_where_it_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["TensorrtExecutionProvider", CUDA, "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: names)
    monkeypatch.setattr(providers, "missing_library", lambda _name: None)
    recording = ("cuda", {"enable_cuda_graph": "1"})
    assert resolve_providers([recording, "cpu"])[0] == (CUDA, {"enable_cuda_graph": "1"})
    for wanted in (
        ["cpu", recording],
        ["tensorrt", recording],
        [("tensorrt", {"trt_cuda_graph_enable": True})],
        [("cuda", {"enable_cuda_graph": "1", "enable_graph_capture": "1"})],
    ):
        with pytest.raises(ProviderError, match="replays the first pass"):
            resolve_providers(wanted)


def test_a_device_does_not_hold_a_table_in_two_shapes() -> None:
    key = "optimization.constant_folding_max_output_size_in_bytes"
    for wanted in ([(CUDA, {})], [(CUDA, {}), ("CPUExecutionProvider", {})]):
        assert session.session_options(wanted, None, alone=True).get_session_config_entry(key) == "1048576"


@needs_azure
def test_a_provider_that_takes_no_work_does_not_leave_it_to_the_cpu_in_silence() -> None:
    # It comes up, claims no node, and ONNX Runtime would run every one of them on the CPU.
    with pytest.raises(ProviderError, match=r"'azure' loaded and would leave (\d+) of \1 matrix products"):
        NudgedLM.load(BUNDLE, providers=["azure"])
    with NudgedLM.load(BUNDLE, providers=["azure", "cpu"]) as lm:
        assert lm.generate("the cat", max_new_tokens=4).text


def linker_says(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    def refuse(_path: str) -> None:
        raise OSError(text)

    monkeypatch.setattr(ctypes, "CDLL", refuse)


def test_the_library_that_the_linker_misses_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "libonnxruntime_providers_cuda.so").touch()
    linker_says(monkeypatch, "libcublasLt.so.13: cannot open shared object file: No such file or directory")
    assert missing_library(CUDA, tmp_path) == "libcublasLt.so.13"
    linker_says(monkeypatch, "libonnxruntime_providers_cuda.so: undefined symbol: Provider_GetHost")
    assert missing_library(CUDA, tmp_path) is None
    assert missing_library("TensorrtExecutionProvider", tmp_path) == "libonnxruntime_providers_tensorrt.so"
    assert missing_library("CPUExecutionProvider", tmp_path) is None


def test_a_provider_without_its_libraries_is_an_error_or_the_next_one_takes_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, "CPUExecutionProvider"])
    monkeypatch.setattr(providers, "missing_library", lambda name: "libcudart.so.13" if name == CUDA else None)
    with pytest.raises(ProviderError, match=r"^provider 'cuda' did not load: the library libcudart\.so\.13 is missing"):
        NudgedLM.load(BUNDLE, providers=["cuda"])
    assert resolve_providers([("cuda", {"device_id": 1}), "cpu"]) == [("CPUExecutionProvider", {})]


@pytest.mark.parametrize(
    "failure",
    ["CUDA failure 100: no CUDA-capable device is detected", "CUDNN failure 1001: CUDNN_STATUS_NOT_INITIALIZED"],
)
def test_a_device_that_fails_is_said_without_the_code_that_noticed(
    failure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = onnxruntime.InferenceSession

    def open_session(path: str, options: object, *, providers: list[str], **rest: object) -> object:
        if CUDA in providers:
            raise RuntimeError(
                "[ONNXRuntimeError] : 1 : FAIL : Exception during initialization: cuda_call.cc:154 std::conditional_t"
                f"<THRW, void> onnxruntime::CudaCall(ERRTYPE) {failure} ; GPU=0 ; hostname=vm ; expr=cudnnCreate(&h);\n"
            )
        return real(path, options, providers=providers, **rest)

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, "CPUExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "InferenceSession", open_session)
    monkeypatch.setattr(providers, "missing_library", lambda _name: None)
    with pytest.raises(ProviderError, match=rf"^provider 'cuda' did not load: {failure} \(onnxruntime-gpu needs"):
        NudgedLM.load(BUNDLE, providers=["cuda"])
    with NudgedLM.load(BUNDLE, providers=["cuda", "cpu"]) as lm:
        assert lm.providers == {"base": "cpu", "nudge": "cpu"}


def test_a_provider_that_fails_in_a_pass_is_said_in_one_line() -> None:
    class Failing:
        def __init__(self, real: Any) -> None:
            self._real = real

        def run_with_iobinding(self, _binding: object) -> None:
            raise RuntimeError("Error in execution: Output names mismatch\nmore of it")

        def __getattr__(self, name: str) -> Any:
            return getattr(self._real, name)

    graph = session.open_session(Bundle.open(BUNDLE), "base", ["cpu"])
    decoder = Decoder(replace(graph, session=Failing(graph.session)))
    message = r"^provider 'cpu' failed in base/model\.onnx \(Error in execution: Output names mismatch\); use another"
    with pytest.raises(ProviderError, match=message):
        decoder.feed([5])


@pytest.mark.skipif("NUDGE_GPU_PYTHON" not in os.environ, reason="needs the Python of an environment with [gpu]")
@pytest.mark.parametrize("name", ["cuda", "tensorrt"])
def test_the_gpu_build_without_a_gpu_says_so_in_one_line(name: str) -> None:
    command = [os.environ["NUDGE_GPU_PYTHON"], "-m", "nudge_onnx", "run", str(BUNDLE), "the cat", "--provider", name]
    result = subprocess.run(command, capture_output=True, text=True, cwd=BUNDLE)
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.startswith(f"Error: provider '{name}' did not load: the library lib")
    assert result.stderr.count("\n") == 1
