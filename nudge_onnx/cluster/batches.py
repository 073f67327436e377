"""A file of prompts, answered by many processes through Ray Data."""

from __future__ import annotations

import json
import logging
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
import ray.data

from nudge_onnx.batch_answers import written
from nudge_onnx.batch_files import BadLine, Line
from nudge_onnx.runtime.lm import NudgedLM

__all__ = ["written_on_ray"]

# What a task has of each place that a process has: the last answers of a task are written with places empty.
_ANSWERS_OF_A_PLACE = 4


def written_on_ray(
    folder: Path,
    lines: Sequence[Line | BadLine],
    arguments: Mapping[str, Any],
    load: Mapping[str, Any],
    *,
    processes: int,
    cpus: int,
    address: str | None,
) -> Generator[Mapping[str, Any], None, None]:
    """The answers in the order of their lines, as `Answer.to_dict` gives them, from so many processes.

    `arguments` are those of `NudgedLM.stream`, and `load` those of `NudgedLM.load` in each process, which counts for
    `cpus` cores. A process that dies is started anew, and what it had not given back is written again. `address` is of
    a Ray cluster that runs, by default one on this machine for this call. Every machine has the bundle at `folder`.
    """
    started = not ray.is_initialized()
    if started:
        here = {} if address else {"num_cpus": processes * cpus, "include_dashboard": False}
        # Progress is shown by whoever asks.
        for name in ("ray", "ray.data"):
            logging.getLogger(name).setLevel(logging.ERROR)
        ray.init(address=address or "local", log_to_driver=False, configure_logging=False, **here)
    try:
        context = ray.data.DataContext.get_current().copy()
        context.execution_options.preserve_order = True
        context.enable_progress_bars = context.print_on_execution_start = False
        with ray.data.DataContext.current(context):
            of_a_task = _ANSWERS_OF_A_PLACE * int(load.get("slots", 1))
            # In blocks that are there already: reading them would take cores that the processes have.
            numbers = ray.data.from_items(
                [{"number": number} for number in range(len(lines))],
                override_num_blocks=max(1, -(-len(lines) // of_a_task)),
            )
            found = numbers.map_batches(
                _Writer,
                fn_constructor_args=(str(folder.resolve()), list(lines), dict(arguments), dict(load)),
                batch_size=None,
                num_cpus=cpus,
                concurrency=processes,
                max_restarts=-1,
                max_task_retries=-1,
            )
            for row in found.iter_rows():
                yield json.loads(row["answer"])
    finally:
        if started:
            ray.shutdown()


class _Writer:
    """One process with both models open."""

    def __init__(
        self, folder: str, lines: list[Line | BadLine], arguments: dict[str, Any], load: dict[str, Any]
    ) -> None:
        self._lm = NudgedLM.load(folder, **load)
        self._lines = lines
        self._arguments = arguments

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        lines = [self._lines[number] for number in batch["number"]]
        return {"answer": [json.dumps(answer) for answer in written(self._lm, lines, self._arguments)]}
