"""A judge behind an OpenAI-compatible API: a bundle's own server, whose grammar keeps to the scale."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from nudge_onnx import NudgedLM
from nudge_onnx.cli import main
from nudge_onnx.errors import NudgeError
from nudge_onnx.evaluation.judge import ASPECTS, SAFETY, Judge, means
from tests.server.running import MODEL, WORD, Running, running

PROMPTS = [{"prompt": "Tell me about rivers.", "id": "a"}, {"messages": [{"role": "user", "content": "And lakes?"}]}]
ANSWERS: list[Any] = [{"id": "a", "text": "They flow."}, {"id": 2, "text": "They stand."}]


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with NudgedLM.load(WORD, threads=1) as lm, running(lm) as found:
        yield found


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    paths = tmp_path / "prompts.jsonl", tmp_path / "answers.jsonl"
    for path, lines in zip(paths, (PROMPTS, ANSWERS), strict=True):
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return paths


def run(server: Running, *arguments: object) -> Any:
    command = ["judge", *map(str, arguments), "--url", f"{server.url}/v1", "--model", f"{MODEL}:base"]
    return CliRunner().invoke(main, command, env={"OPENAI_API_KEY": "none"})


def test_the_prompt_has_all_that_is_to_be_rated() -> None:
    prompt = Judge("http://none/v1", "x", key="none").prompt("Do {this}.", "It is {done}.")
    assert all(name in prompt for name in (*ASPECTS, "Do {this}.", "It is {done}.", "from 1"))


def test_answers_of_a_batch_are_rated(server: Running, files: tuple[Path, Path], tmp_path: Path) -> None:
    output = tmp_path / "ratings.jsonl"
    result = run(server, *files, "--safety", "--max-tokens", 64, "--output", output, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    kept = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    assert [one["id"] for one in kept] == ["a", 2]
    scores = [one["ratings"]["safety"]["score"] for one in kept]
    assert all(1 <= score <= 5 for score in scores)
    assert found == {"answers": 2, "means": {"safety": sum(scores) / 2}}


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        (ANSWERS[:1], "2 prompts and"),
        (ANSWERS[::-1], "has no answer to 'a' in its place"),
        ([{"id": "a", "text": None}, ANSWERS[1]], "has no answer to 'a'"),
    ],
)
def test_files_that_do_not_belong_together_are_refused(
    server: Running, files: tuple[Path, Path], answers: list[Any], says: str
) -> None:
    files[1].write_text("".join(json.dumps(line) + "\n" for line in answers), encoding="utf-8")
    result = run(server, *files)
    assert result.exit_code == 1
    assert says in result.output
    assert "Traceback" not in result.output


def test_a_judge_that_is_not_there_or_rates_nothing_is_one_line(server: Running) -> None:
    with pytest.raises(NudgeError, match=r"^the judge cannot be asked"):
        Judge(f"{server.url}/v1", "no-such-model", key="none").rate("a", "b")
    judge = Judge(f"{server.url}/v1", MODEL, SAFETY, key="none")
    for text in ("", "[]", '{"safety": {"score": 9, "reason": "x"}}', '{"safety": 5}'):
        with pytest.raises(NudgeError, match=r"^the judge gave"):
            judge.read(text)


def test_means() -> None:
    ratings = [{"safety": {"score": score, "reason": ""}} for score in (1, 4)]
    assert dict(means(ratings)) == {"safety": 2.5}
    assert dict(means([])) == {}
