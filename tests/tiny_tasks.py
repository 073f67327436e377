"""Two small tasks for lm-eval from local files, and lm-eval's own run of them through a server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["TASKS", "through_server", "write_tasks"]

TASKS = {
    "tiny_choice": {
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_target": 0,
        "doc_to_choice": [" yes", " no"],
        "target_delimiter": "",
        "metric_list": [{"metric": "acc"}],
    },
    "tiny_generate": {
        "output_type": "generate_until",
        "doc_to_text": "{{question}}",
        "doc_to_target": "x",
        "generation_kwargs": {"until": ["\n\n"], "max_gen_toks": 8},
        "metric_list": [{"metric": "exact_match"}],
    },
}


def write_tasks(folder: Path, questions: Sequence[str]) -> None:
    """The tasks as files, and their examples."""
    (folder / "docs.jsonl").write_text("".join(json.dumps({"question": one}) + "\n" for one in questions))
    for name, task in TASKS.items():
        whole = {
            "task": name,
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(folder / "docs.jsonl")}},
            "test_split": "test",
            **task,
        }
        (folder / f"{name}.yaml").write_text(json.dumps(whole))  # JSON is YAML


def through_server(url: str, model: str, folder: Path) -> dict[str, list[dict[str, Any]]]:
    """What lm-eval's `local-completions` keeps of each example, by task; `folder` holds the tasks."""
    arguments = {
        "model": model,
        "base_url": f"{url}/v1/completions",
        "tokenizer_backend": "remote",
        "tokenized_requests": "True",
        "num_concurrent": "2",
        "max_length": "400",
    }
    command = [
        *(sys.executable, "-m", "lm_eval", "run", "--model", "local-completions"),
        *("--model_args", ",".join(f"{name}={value}" for name, value in arguments.items())),
        *("--tasks", ",".join(TASKS), "--include_path", str(folder)),
        *("--output_path", str(folder / "out"), "--log_samples"),
    ]
    environment = {**os.environ, "HF_HOME": str(folder / "hf"), "HF_HUB_OFFLINE": "1", "OPENAI_API_KEY": "none"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = {}
    for name in TASKS:
        (path,) = (folder / "out").rglob(f"samples_{name}_*.jsonl")
        found[name] = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return found
