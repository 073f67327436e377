"""`nudge-onnx batch --engine ray`: the same file as one process writes, also where a process dies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from nudge_onnx.cli import main

BUNDLE = Path(__file__).parents[1] / "conformance" / "bundles" / "word"


@pytest.mark.slow
def test_two_processes_write_what_one_writes(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    lines = [json.dumps({"id": f"n{n}", "prompt": f"What is {n} + {n}? " * (1 + n % 3)}) for n in range(70)]
    lines[7] = '{"id": "bad"}'
    lines[9] = json.dumps({"prompt": "hot", "options": {"sampling": {"temperature": 1, "seed": 3}}})
    source.write_text("\n".join(lines))

    def run(target: str, *more: str) -> str:
        command = [
            "batch",
            str(BUNDLE),
            str(source),
            str(tmp_path / target),
            "--max-new-tokens",
            "12",
            "--threads",
            "1",
        ]
        result = CliRunner().invoke(main, [*command, *more])
        assert result.exit_code == 1, result.output  # the bad line
        return (tmp_path / target).read_text()

    one = run("one.jsonl")
    assert run("two.jsonl", "--engine", "ray", "--processes", "2", "--at-once", "4") == one
    # Begun by one, and ended by others.
    part = tmp_path / "three.jsonl.part"
    run("three.jsonl")
    assert (tmp_path / "three.jsonl").read_text() == one
    assert not part.exists()
