"""Runs lm-eval's tasks on a bundle."""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lm_eval import simple_evaluate
from lm_eval.api.task import Task
from lm_eval.tasks import TaskManager
from lm_eval.utils import make_table

from nudge_onnx.errors import NudgeError

from .harness import Harness

__all__ = ["TASKS", "evaluate", "table"]

TASKS = Path(__file__).with_name("tasks")
"""Task files in the paper's settings."""
_OURS = "nudging_"


def evaluate(
    model: Harness,
    names: Sequence[str],
    *,
    data: Path | None,
    include: Sequence[Path] = (),
    limit: int | None = None,
    sample: int | None = None,
    seed: int = 0,
    fewshot: int | None = None,
    chat: bool = True,
) -> Mapping[str, Any]:
    """lm-eval's results of tasks by name.

    The files that tasks of `TASKS` name are looked for in the folder `data`. `include` are folders of other task files.
    `limit` takes the first examples of each task, `sample` so many that are drawn with `seed`. `chat` hands on
    messages, which each model renders with its own template; otherwise prompts are texts. Raises `NudgeError` for a
    task that cannot be loaded.
    """
    logging.getLogger("lm_eval").setLevel(logging.WARNING)
    paths = [TASKS, *include]
    manager = TaskManager(include_path=paths, include_defaults=False)
    if not set(names) <= set(manager.all_subtasks):
        # To find lm-eval's own thousands of tasks takes ten seconds. A group may be made of them.
        manager = TaskManager(include_path=paths)
    tasks = [_loaded(manager, name, data) for name in names]
    samples = None
    if sample is not None:
        samples = {task.config.task: _drawn(len(task.eval_docs), sample, seed) for task in tasks}
    found = simple_evaluate(
        model=model,
        tasks=tasks,
        num_fewshot=fewshot,
        limit=limit,
        samples=samples,
        apply_chat_template=chat,
        fewshot_as_multiturn=chat,
        bootstrap_iters=0,
        random_seed=seed,
        numpy_random_seed=seed,
        torch_random_seed=seed,
        fewshot_random_seed=seed,
    )
    assert found is not None  # on the first of several processes, and there is one
    results: Mapping[str, Any] = found
    return results


def _loaded(manager: TaskManager, name: str, data: Path | None) -> Task:
    ours = TASKS / f"{name}.yaml"
    try:
        with TemporaryDirectory() as folder:
            spec = name if data is None or not ours.is_file() else _with_data(ours, data, Path(folder))
            tasks = list(manager.load([spec])["tasks"].values())
    except NudgeError:
        raise
    except Exception as error:  # whatever a task file, a data set or a download raises
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise NudgeError(f"the task {name} cannot be loaded ({reason})") from None
    if len(tasks) != 1:
        raise NudgeError(f"{name} names {len(tasks)} tasks; give them by name")
    return tasks[0]


def _with_data(task: Path, data: Path, folder: Path) -> str:
    """A file of the same task, whose examples are in the folder `data`."""
    examples = (data / f"{task.stem.removeprefix(_OURS)}.jsonl").resolve()
    if not examples.is_file():
        raise NudgeError(f"{examples} is missing; {task.stem} reads its examples from there")
    own = {"include": str(task), "dataset_kwargs": {"data_files": {"test": str(examples)}}}
    path = folder / task.name
    path.write_text(json.dumps(own), encoding="utf-8")  # which is YAML, too
    return str(path)


def _drawn(total: int, count: int, seed: int) -> list[int]:
    return sorted(random.Random(seed).sample(range(total), min(count, total)))


def table(results: Mapping[str, Any]) -> str:
    """The figures of all tasks as a Markdown table."""
    text: str = make_table(results)
    return text
