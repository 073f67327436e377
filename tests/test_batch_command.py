"""`nudge-onnx batch`: no line lost, none twice, and each in its place, however a run ended."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from pairs import Pair

from nudge_onnx import NudgedLM
from nudge_onnx.batch_files import BatchOutput
from nudge_onnx.cli import main
from nudge_onnx.errors import NudgeError

PROMPTS = ["the cat", "old men", "so be it", "a mat and dog", "ran to town"]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return written(tmp_path / "in.jsonl", [{"id": number, "prompt": text} for number, text in enumerate(PROMPTS)])


def written(path: Path, lines: list[Any]) -> Path:
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return path


def run(pair: Pair, source: Path, target: Path, *options: str) -> Result:
    return CliRunner().invoke(main, ["batch", str(pair.bundle), str(source), str(target), "--threads", "1", *options])


def read(target: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in target.read_text().splitlines()]


def test_answers_stand_in_the_order_of_their_prompts(tiny_word_pair: Pair, source: Path, tmp_path: Path) -> None:
    result = run(tiny_word_pair, source, tmp_path / "out.jsonl", "--max-new-tokens", "12")
    assert result.exit_code == 0
    assert result.stdout == ""
    assert "5 of 5 answers" in result.stderr
    found = read(tmp_path / "out.jsonl")
    assert [one["id"] for one in found] == [0, 1, 2, 3, 4]
    with NudgedLM.load(tiny_word_pair.bundle, threads=1) as lm:
        assert [one["text"] for one in found] == [lm.generate(text, max_new_tokens=12).text for text in PROMPTS]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]


def test_what_cannot_be_answered_has_an_error_in_its_place(tiny_word_pair: Pair, tmp_path: Path) -> None:
    source = written(
        tmp_path / "in.jsonl",
        [
            {"id": "good", "messages": [{"role": "user", "content": "the cat"}], "options": {"max_new_tokens": 3}},
            "no json",
            "",
            {"id": ["any", "value"], "prompt": 3},
            {"prompt": "the cat", "options": {"gama": 1}},
            {"prompt": "the cat", "messages": []},
            {"id": "long", "prompt": "the cat " * 5000},
            {"prompt": "the cat", "options": {"sampling": {"temperature": 0.5, "seed": 1}, "max_new_tokens": 3}},
            {"prompt": "the cat", "options": {"sampling": {"warmth": 0.5}}},
            {"prompt": "the cat", "colour": "red"},
        ],
    )
    result = run(tiny_word_pair, source, tmp_path / "out.jsonl", "--pieces")
    assert result.exit_code == 7
    assert "7 of 9 lines have an error" in result.stderr
    found = read(tmp_path / "out.jsonl")
    assert [one["id"] for one in found] == ["good", 2, ["any", "value"], 5, 6, "long", 8, 9, 10]
    assert [one["error"] is None for one in found] == [True, *[False] * 5, True, False, False]
    assert all("\n" not in one["error"] for one in found if one["error"])
    assert found[0]["pieces"]
    for at, words in ((1, "line 2"), (2, "must be a text"), (3, "gama"), (4, "either"), (5, "context"), (7, "warmth")):
        assert words in found[at]["error"]


def test_a_killed_run_goes_on_where_it_stopped(tiny_word_pair: Pair, tmp_path: Path) -> None:
    lines = [{"id": number, "prompt": PROMPTS[number % 5] + " at all" * (number % 7)} for number in range(300)]
    source, target = written(tmp_path / "in.jsonl", lines), tmp_path / "out.jsonl"
    beside = tmp_path / "out.jsonl.part"
    call = [sys.executable, "-m", "nudge_onnx", "batch", str(tiny_word_pair.bundle), str(source), str(target)]
    call += ["--max-new-tokens", "10", "--threads", "1"]
    process = subprocess.Popen(call, stderr=subprocess.DEVNULL)
    while process.poll() is None and (not beside.exists() or beside.read_bytes().count(b"\n") < 20):
        time.sleep(0.002)
    process.kill()
    process.wait()
    assert not target.exists()
    done = beside.read_bytes().count(b"\n") - 1
    assert 19 <= done < 300
    with beside.open("ab") as stream:
        stream.write(b'{"id": 7, "te')  # a line that was cut short
    result = run(tiny_word_pair, source, target, "--max-new-tokens", "10")
    assert result.exit_code == 0
    assert f"going on behind {done} of 300 lines" in result.stderr
    assert [one["id"] for one in read(target)] == list(range(300))
    assert not beside.exists()
    again = run(tiny_word_pair, source, tmp_path / "again.jsonl", "--max-new-tokens", "10")
    assert again.exit_code == 0
    assert (tmp_path / "again.jsonl").read_bytes() == target.read_bytes()


def test_another_run_does_not_go_on_with_it(tiny_word_pair: Pair, source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.jsonl"
    with BatchOutput.opened(source.with_name("other"), source, {"bundle": "another"}, overwrite=False) as output:
        output.add({"id": 0, "error": None}, failed=False)
        output.add({"id": 1, "error": None}, failed=False)
        (tmp_path / "other.part").rename(tmp_path / "out.jsonl.part")
        (tmp_path / "other.part").touch()
    result = run(tiny_word_pair, source, target)
    assert result.exit_code == 1
    assert "is of another run" in result.stderr
    assert run(tiny_word_pair, source, target, "--overwrite", "--max-new-tokens", "4").exit_code == 0
    result = run(tiny_word_pair, source, target)
    assert result.exit_code == 1
    assert "is there already" in result.stderr


def test_a_part_that_is_no_part_is_left_alone(source: Path, tmp_path: Path) -> None:
    beside = tmp_path / "out.jsonl.part"
    beside.write_text("my notes\n")
    with (
        pytest.raises(NudgeError, match="another run"),
        BatchOutput.opened(tmp_path / "out.jsonl", source, {}, overwrite=False),
    ):
        pass
    assert beside.read_text() == "my notes\n"


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_no_prompts_have_no_answers(tiny_word_pair: Pair, tmp_path: Path, content: str) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text(content)
    assert run(tiny_word_pair, source, tmp_path / "out.jsonl").exit_code == 0
    assert (tmp_path / "out.jsonl").read_text() == ""


def test_a_target_that_cannot_be_written_is_one_line(tiny_word_pair: Pair, source: Path, tmp_path: Path) -> None:
    result = run(tiny_word_pair, source, tmp_path / "no" / "such" / "out.jsonl")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
