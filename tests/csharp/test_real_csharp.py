"""The real pair through the C# sample: the same ids as Python, and tokens per second beside Python's (`pytest -s`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from real import part, real_bundle

from nudge_onnx import Answer, NudgedLM
from tests.csharp.build import Built, build, run
from tests.csharp.test_csharp import conform, fuzz

pytestmark = pytest.mark.real

PROMPTS = (
    "What are three good reasons to learn a second language?",
    "Explain in 2 sentences why the sky is blue.",
    "Write a short poem about the sea, with 4 lines.",
    "List the primes below 30 and say what a prime is.",
    "Übersetze 'good morning' ins Deutsche und ins 日本語.",
)
TOKENS = 64


@pytest.fixture(scope="module")
def client() -> Built:
    return build()


def csharp(client: Built, bundle: Path, prompt: str, *options: str) -> dict[str, Any]:
    done = run([*client.console, "run", str(bundle), prompt, "--json", "--max-new-tokens", str(TOKENS), *options])
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def ids_of(answer: dict[str, Any]) -> list[tuple[str, list[int]]]:
    return [(piece["source"], list(piece["token_ids"])) for piece in answer["pieces"]]


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_five_prompts_have_the_ids_of_python(client: Built, precision: str, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = real_bundle(precision)
    wrong, lines = [], []
    with NudgedLM.load(bundle) as lm:
        for prompt in part(PROMPTS):
            # One after the other, so that both meet the same load of the machine.
            ours: Answer = lm.generate(prompt, max_new_tokens=TOKENS)
            theirs = csharp(client, bundle, prompt)
            if ids_of(theirs) != ids_of(dict(ours.to_dict())) or theirs["finish_reason"] != ours.finish_reason:
                wrong.append(prompt)
            lines.append(f"{theirs['tokens_per_second']:6.1f}  {ours.tokens_per_second:6.1f}  {prompt}")
    with capsys.disabled():
        print(f"\n{precision}: tokens per second, C# and Python", *lines, sep="\n")
    assert not wrong


def test_real_tokenizers_give_random_texts_the_ids_of_python(client: Built, tmp_path: Path) -> None:
    bundle = real_bundle("int8")
    paths = [bundle / role / "tokenizer.json" for role in ("base", "nudge")]
    assert conform(client, "tokenizer", fuzz(paths, tmp_path, 1000)) == len(paths) * (1 + 2 * (1000 + 30))
