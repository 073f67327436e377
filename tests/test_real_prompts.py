"""On the real pair in int8: no answer depends on what was asked before, and Ctrl-C ends a long prompt."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Sequence

import pytest
from real import part, real_bundle

from nudge_onnx import NudgedLM

BUNDLE = real_bundle("int8")
RULE = "Rule {}: be brief and kind, name what you are not sure of, and use no word that a child of nine would not know."
SYSTEM = " ".join(RULE.format(number) for number in range(1, 15))
"""About 400 tokens of either model."""
QUESTIONS = (
    "Why is the sky blue?",
    "Name three rivers.",
    "How do I boil an egg?",
    "What is a prime number?",
    "Who wrote Hamlet?",
    "Say good morning in French.",
    "What does a bee eat?",
    "How far away is the moon?",
)


def _answers(lm: NudgedLM, questions: Sequence[str]) -> list[str]:
    def ask(question: str) -> str:
        messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]
        return lm.generate(messages, max_new_tokens=24).text

    return [ask(question) for question in questions]


@pytest.mark.real
def test_a_shared_system_prompt_changes_no_answer() -> None:
    fresh = []
    questions = part(QUESTIONS, least=3)
    for question in questions:
        with NudgedLM.load(BUNDLE) as lm:
            fresh += _answers(lm, (question,))
    assert len(set(fresh)) == len(questions)
    with NudgedLM.load(BUNDLE) as lm:
        assert _answers(lm, questions) == fresh
        assert _answers(lm, questions[::-1]) == fresh[::-1]


@pytest.mark.real
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT for one process")
def test_ctrl_c_ends_a_prompt_of_thousands_of_tokens() -> None:
    prompt = SYSTEM * 10
    code = "from nudge_onnx.cli import main; main()"
    command = [sys.executable, "-c", code, "run", str(BUNDLE), prompt, "--max-new-tokens", "1"]
    begun = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(5)  # loading takes one or two
    process.send_signal(signal.SIGINT)
    sent = time.monotonic()
    _, errors = process.communicate(timeout=120)
    ended = time.monotonic()
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    begun = time.monotonic()
    subprocess.run(command, check=True, capture_output=True, timeout=600)
    # One block of the prompt, of its 31 or more.
    assert ended - sent < (time.monotonic() - begun) / 4
