"""The runtime in an environment of its own: what it needs is there, and PyTorch and the Hugging Face stack are not."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from pairs import Pair

from nudge_onnx import NudgedLM

ROOT = Path(__file__).parent.parent
FORBIDDEN = ("torch", "transformers", "optimum", "huggingface-hub", "safetensors", "onnx", "gguf")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of a new environment with `.[cpu]` and nothing else."""
    folder = tmp_path_factory.mktemp("runtime")
    venv.create(folder, with_pip=True)
    executable = folder / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    command = [str(executable), "-m", "pip", "install", "-q", "--disable-pip-version-check", f"{ROOT}[cpu]"]
    subprocess.run(command, check=True, capture_output=True, timeout=600)
    return executable


@pytest.mark.slow
def test_a_bundle_answers_without_pytorch(python: Path, tiny_word_pair: Pair) -> None:
    listed = subprocess.run([python, "-m", "pip", "list", "--format=json"], capture_output=True, text=True, check=True)
    installed = {package["name"].lower() for package in json.loads(listed.stdout)}
    assert "onnxruntime" in installed
    # The tokenizers wheel lists huggingface-hub for its own downloads, and works without importing it.
    assert installed.isdisjoint(set(FORBIDDEN) - {"huggingface-hub"})
    command = [python, "-m", "nudge_onnx", "run", tiny_word_pair.bundle, "the cat", "--json", "--max-new-tokens", "16"]
    answer = subprocess.run([*map(str, command)], capture_output=True, text=True, check=True, cwd=python.parent)
    with NudgedLM.load(tiny_word_pair.bundle) as lm:
        assert json.loads(answer.stdout)["text"] == lm.generate("the cat", max_new_tokens=16).text


@pytest.mark.slow
def test_without_onnxruntime_the_first_use_names_the_extra(python: Path, tiny_word_pair: Pair) -> None:
    hide = "import sys; sys.modules['onnxruntime'] = None; from nudge_onnx import NudgedLM, NudgeError\n"
    code = f"{hide}try:\n    NudgedLM.load(sys.argv[1])\nexcept NudgeError as error:\n    print(error)"
    command = [str(python), "-c", code, str(tiny_word_pair.bundle)]
    result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=python.parent)
    assert "pip install 'nudge-onnx[cpu]'" in result.stdout


def test_no_module_of_the_runtime_imports_the_export_stack() -> None:
    code = (
        "import sys, pkgutil, importlib, nudge_onnx.runtime as room\n"
        "for module in pkgutil.iter_modules(room.__path__):\n"
        "    importlib.import_module(f'nudge_onnx.runtime.{module.name}')\n"
        "print([name for name in ('torch', 'transformers', 'optimum', 'huggingface_hub') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_importing_the_package_is_quick() -> None:
    code = "import time; start = time.perf_counter(); import nudge_onnx; print(time.perf_counter() - start)"
    times = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        for _ in range(3)
    ]
    assert min(times) < 0.4
