"""Bundles on lm-eval: what is asked, what is scored, and the same figures as through the server."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from lm_eval.tasks import TaskManager

from nudge_onnx import NudgedLM, NudgeError, RawPrompt
from nudge_onnx.cli import main
from nudge_onnx.evaluation import running as running_module
from nudge_onnx.evaluation.harness import Harness
from nudge_onnx.evaluation.running import TASKS, evaluate
from nudge_onnx.evaluation.tasks import scoring
from tests.server.running import MODEL, WORD, running
from tests.tiny_tasks import TASKS as TINY
from tests.tiny_tasks import through_server, write_tasks

SYSTEM = "Answer the question by walking through the reasoning steps."
CHOICES = {"text": ["a", "b", "c"], "label": ["A", "B", "C"]}
BIG = {"inputs": "Q: What is the date tomorrow in MM/DD/YYYY?\nA:", "targets": ["05/01/2021"]}
DOCS: dict[str, tuple[dict[str, Any], str, str]] = {
    # An example of each data set, an answer that is right, and one that is wrong.
    "gsm8k": ({"question": "How many?", "answer": "3*6=18\n#### 1,018"}, "So 12, no, 1018.00.", "18"),
    "svamp": ({"question_concat": "How many?", "Answer": "145.0"}, "145", "It is 5"),
    "multiarith": ({"question": " How many? ", "final_ans": "9"}, "3 + 6 = 9.", "no number"),
    "mmlu": ({"subject": "law", "question": "Which?", "choices": list("wxyz"), "answer": 2}, "A? No: (C).", "C or D"),
    "arc_challenge": ({"question": "Which?", "choices": CHOICES, "answerKey": "B"}, "B. b", "A"),
    "csqa": ({"question": "Which?", "choices": CHOICES, "answerKey": "A"}, "The answer is A", ""),
    "strategyqa": ({"question": "Is it?", "answer": False}, "Yes, but no.", "It is true."),
    "sports": ({"inputs": "X. Plausible/implausible?", "targets": ["implausible"]}, "not plausible", "plausible"),
    "date": (BIG, "04/30/2021, so 5/1/2021.", "05/02/2021"),
    "coin_flip": ({"inputs": "Q: Heads up?", "targets": "yes"}, "Yes.", "no"),
    "last_letter": ({"question": "Last letters of 'Elon Musk'?", "answer": "nk"}, 'n and k: "NK".', "nk or kn"),
}


@pytest.fixture(scope="module")
def lm() -> Iterator[NudgedLM]:
    with NudgedLM.load(WORD, threads=1) as loaded:
        yield loaded


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for name, (doc, _, _) in DOCS.items():
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(doc) + "\n", encoding="utf-8")
    return tmp_path


def test_every_task_of_the_paper_asks_in_its_settings(lm: NudgedLM, data: Path) -> None:
    names = [path.stem for path in sorted(TASKS.glob("nudging_*.yaml"))]
    assert [name.removeprefix("nudging_") for name in names] == sorted(DOCS)
    found = evaluate(Harness(lm, max_new_tokens=8), names, data=data)
    for name in names:
        (sample,) = found["samples"][name]
        chat, arguments = sample["arguments"][0]
        system, user = json.loads(chat)
        assert system == {"role": "system", "content": SYSTEM}
        assert user["role"] == "user"
        assert "Question: " in user["content"]
        assert arguments["max_gen_toks"] == 512
        # What is told to have been answered is the bundle's answer to these messages.
        assert sample["resps"] == [[lm.generate([system, user], max_new_tokens=8).text]]
    assert json.loads(found["samples"]["nudging_arc_challenge"][0]["arguments"][0][0])[1]["content"] == (
        "Question: Which?\nA. a\nB. b\nC. c"
    )


@pytest.mark.parametrize("name", DOCS)
def test_answers_are_scored_by_rule(name: str) -> None:
    doc, right, wrong = DOCS[name]
    line = (TASKS / f"nudging_{name}.yaml").read_text(encoding="utf-8").splitlines()[-1]
    score = getattr(scoring, line.rpartition(".")[2])
    assert [score(doc, [right]), score(doc, [wrong]), score(doc, [""])] == [
        {"exact_match": 1.0},
        {"exact_match": 0.0},
        {"exact_match": 0.0},
    ]


class Asked:
    """What lm-eval asks of a model."""

    def __init__(self, *arguments: Any) -> None:
        self.args = arguments


def test_a_likelihood_is_the_models_own(lm: NudgedLM) -> None:
    text, more = "the cat sat", " on a mat"
    harness = Harness(lm, "base")
    ((total, greedy),) = harness.loglikelihood([Asked(text, more)])  # type: ignore[list-item]
    ids = lm.raw_prompt("base", RawPrompt(text + more)).ids
    start = len(lm.raw_prompt("base", RawPrompt(text)).ids)
    found = lm.score(RawPrompt(ids=ids), top=1)[start:]
    assert total == pytest.approx(sum(one.logprob for one in found if one))
    assert greedy is all(one.top[0][0] == one.token_id for one in found if one)
    (rolling,) = harness.loglikelihood_rolling([Asked(text + more)])  # type: ignore[list-item]
    assert rolling < total
    (long,) = harness.loglikelihood_rolling([Asked(" ".join([text] * 400))])  # type: ignore[list-item]
    assert long < 50 * rolling


def test_messages_have_likelihoods_too(lm: NudgedLM) -> None:
    harness = Harness(lm, "nudge")
    chat = harness.apply_chat_template([{"role": "user", "content": "the cat"}])
    ((total, _),) = harness.loglikelihood([Asked(chat, " sat")])  # type: ignore[list-item]
    prompt = lm.prompt("nudge", [{"role": "user", "content": "the cat"}])
    found = lm.score(RawPrompt(ids=prompt.encode(" sat")), role="nudge")[len(prompt.ids) :]
    assert total == pytest.approx(sum(one.logprob for one in found if one))


@pytest.mark.parametrize("mode", ["nudged", "ensemble"])
def test_two_models_give_no_likelihood(lm: NudgedLM, mode: Any) -> None:
    with pytest.raises(NudgeError, match=f"mode '{mode}' gives texts no probability"):
        Harness(lm, mode).loglikelihood([Asked("a", "b")])  # type: ignore[list-item]


def test_an_answer_that_is_begun_for_the_model_is_gone_on_with(lm: NudgedLM) -> None:
    harness = Harness(lm)
    messages = [{"role": "user", "content": "the cat"}, {"role": "assistant", "content": "sat on"}]
    chat = harness.apply_chat_template(messages, add_generation_prompt=False)
    (text,) = harness.generate_until([Asked(chat, {"until": [], "max_gen_toks": 8})])  # type: ignore[list-item]
    assert text == lm.generate(messages, max_new_tokens=8).text


QUESTIONS = ["Is the sky blue?", "Are rivers dry?", "größer", "the cat sat on"]


@pytest.mark.slow
def test_the_figures_are_those_through_the_server(lm: NudgedLM, tmp_path: Path) -> None:
    write_tasks(tmp_path, QUESTIONS)
    own = evaluate(Harness(lm, "base", add_bos_token=False), list(TINY), data=None, include=[tmp_path], chat=False)
    with running(lm) as server:
        found = through_server(server.url, f"{MODEL}:base", tmp_path)
    for name, kept in found.items():
        theirs = {one["doc_id"]: one for one in kept}
        assert len(kept) == len(own["samples"][name]) == len(QUESTIONS)
        for sample in own["samples"][name]:
            other = theirs[sample["doc_id"]]
            if name == "tiny_generate":
                assert sample["resps"] == other["resps"]
            else:
                for (ours, _), there in zip(sample["filtered_resps"], other["filtered_resps"], strict=True):
                    assert float(ours) == pytest.approx(float(there[0]), abs=1e-3)


@pytest.mark.parametrize(("name", "defaults"), [("tiny_choice", [False]), ("group", [False, True])])
def test_lm_evals_own_tasks_are_looked_for_where_one_may_be_asked_for(
    lm: NudgedLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, defaults: list[bool]
) -> None:
    write_tasks(tmp_path, QUESTIONS)
    (tmp_path / "group.yaml").write_text(json.dumps({"group": "group", "task": ["arc_easy"]}))
    asked = []

    class Recorded(TaskManager):  # type: ignore[misc]
        def __init__(self, *, include_defaults: bool = True, **options: Any) -> None:
            asked.append(include_defaults)
            super().__init__(include_defaults=False, **options)  # its own would be fetched

    monkeypatch.setattr(running_module, "TaskManager", Recorded)
    with pytest.raises(NudgeError):
        evaluate(Harness(lm), [name], data=None, include=[tmp_path])
    assert asked == defaults


@pytest.mark.slow
def test_lm_evals_own_command_knows_bundles(tmp_path: Path) -> None:
    write_tasks(tmp_path, QUESTIONS)
    command = [
        *(sys.executable, "-m", "nudge_onnx.evaluation", "run", "--model", "nudge-onnx"),
        *("--model_args", f"bundle={WORD},mode=base", "--tasks", "tiny_choice", "--include_path", str(tmp_path)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "|tiny_choice|" in done.stdout


def run(*arguments: object) -> Any:
    return CliRunner().invoke(main, ["eval", str(WORD), *map(str, arguments), "--threads", "1"])


def test_the_command_prints_figures_and_keeps_answers(data: Path, tmp_path: Path) -> None:
    output = tmp_path / "found.json"
    arguments = ("--task", "nudging_coin_flip", "--data", data, "--gamma", 1, "--sample", 5, "--output", output)
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["nudging_coin_flip"]["exact_match,none"] in (0, 1)
    kept = json.loads(output.read_text(encoding="utf-8"))
    assert kept["mode"] == "nudged"
    assert kept["options"]["gamma"] == 1
    assert len(kept["samples"]["nudging_coin_flip"]) == 1
    assert "|nudging_coin_flip" in run(*arguments).stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--task", "nudging_gsm8k", "--data", "."], "gsm8k.jsonl is missing"),
        (["--task", "no_such_task"], "no_such_task cannot be loaded"),
        (["--task", "nudging_date", "--limit", "1", "--sample", "1"], "give one of them"),
        (["--task", "nudging_date", "--output", "/no/such/folder/x.json"], "cannot be written"),
        (["--task", "tiny_choice", "--raw"], "mode 'nudged' gives texts no probability"),
    ],
)
def test_bad_input_is_one_line(tmp_path: Path, arguments: list[str], says: str) -> None:
    write_tasks(tmp_path, QUESTIONS)
    result = run(*arguments, "--include", tmp_path)
    assert result.exit_code in (1, 2)
    assert says in result.output
    assert "Traceback" not in result.output


def test_without_lm_eval_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("harness", "running"):
        monkeypatch.setitem(sys.modules, f"nudge_onnx.evaluation.{name}", None)
    monkeypatch.delattr(importlib.import_module("nudge_onnx.evaluation"), "harness", raising=False)
    result = run("--task", "nudging_gsm8k")
    assert result.exit_code == 1
    assert "pip install 'nudge-onnx[eval]'" in result.output
