"""Every program of examples/, run as a reader would run it."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from nudge_onnx import NudgedLM

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
BUNDLE = Path(__file__).resolve().parents[1] / "conformance" / "bundles" / "word"


def run(name: str, *arguments: str, stdin: str = "") -> str:
    command = [sys.executable, EXAMPLES / name, BUNDLE, *arguments]
    done = subprocess.run(command, input=stdin, capture_output=True, encoding="utf-8", timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def lm() -> Any:
    with NudgedLM.load(BUNDLE) as lm:
        yield lm


@pytest.fixture(scope="module")
def client() -> Any:
    with TestClient(runpy.run_path(str(EXAMPLES / "service.py"))["service"](str(BUNDLE))) as client:
        yield client


def test_every_example_is_listed_and_tested() -> None:
    listed = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    tests = Path(__file__).read_text(encoding="utf-8")
    for program in EXAMPLES.glob("*.py"):
        assert f"[{program.name}]" in listed
        assert f'"{program.name}"' in tests


def test_a_stream_marks_who_wrote_what(lm: NudgedLM) -> None:
    answer = lm.generate("the cat", max_new_tokens=64)
    marked = "".join(f"[{piece.text}]" if piece.source == "nudge" else piece.text for piece in answer.pieces)
    assert run("stream.py", "the cat") == marked + "\n"


def test_a_chat_answers_each_turn_of_one_conversation(lm: NudgedLM) -> None:
    first = lm.generate("the cat", max_new_tokens=64).text
    turns = [("user", "the cat"), ("assistant", first), ("user", "a dog")]
    second = lm.generate([{"role": role, "content": text} for role, text in turns], max_new_tokens=64).text
    assert run("chat.py", stdin="the cat\na dog\n") == f"{first}\n{second}\n"


def test_samples_depend_on_their_seed() -> None:
    first, second, gated = run("sample.py", "the cat").splitlines()
    assert first.startswith("seed 1: ")
    assert second.startswith("seed 2: ")
    assert first[8:] != second[8:]
    assert gated.startswith("own gate: ")
    assert run("sample.py", "the cat").splitlines() == [first, second, gated]


def test_a_gamma_of_more_nudges_more(tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("the cat\n\na dog ran\n", encoding="utf-8")
    _, *rows = run("gamma.py", str(prompts)).splitlines()
    shares = [int(row.split()[1].rstrip("%")) for row in rows]
    assert len(rows) == 6
    assert shares[0] < shares[-1]


def test_the_service_streams_lines(client: TestClient, lm: NudgedLM) -> None:
    messages = [{"role": "user", "content": "the cat"}]
    got = client.post("/answer", json={"messages": messages, "max_new_tokens": 20})
    *pieces, end = [json.loads(line) for line in got.text.splitlines()]
    answer = lm.generate(messages, max_new_tokens=20)
    assert [(piece["text"], piece["source"]) for piece in pieces] == [(p.text, p.source) for p in answer.pieces]
    assert end == {"finish_reason": answer.finish_reason}


@pytest.mark.parametrize("content", ["cat " * 10_000, ""])
def test_the_service_refuses_with_one_line(client: TestClient, content: str) -> None:
    messages = [{"role": "user", "content": content}] if content else []
    got = client.post("/answer", json={"messages": messages})
    assert got.status_code == 422
    assert "\n" not in got.json()["detail"]


def test_a_client_that_leaves_gives_its_place_back(lm: NudgedLM) -> None:
    service = runpy.run_path(str(EXAMPLES / "service.py"))
    places = threading.Semaphore(1)
    stream = lm.stream("the cat", max_new_tokens=200)
    lines = service["lines"](stream, places)
    next(lines)
    assert not places.acquire(blocking=False)
    lines.close()
    assert places.acquire(blocking=False)
    assert stream.answer.finish_reason == "cancelled"
