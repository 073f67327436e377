"""A worker process as an object: start it in its environment, ask it, end it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import click

from benchmarks import peers
from benchmarks.models import Variant
from benchmarks.places import PEERS, ROOT, role_of

_ENVIRONMENT_OF = {"genai": "genai", "llamacpp": "llamacpp", "optimum": "optimum", "transformers": "transformers"}


def interpreter(engine: str) -> Path:
    """Ours is measured as it is in the source tree, by the interpreter that runs the benchmarks."""
    return peers.python_of(_ENVIRONMENT_OF[engine]) if engine in _ENVIRONMENT_OF else Path(sys.executable)


class Worker:
    """One process of one module of `benchmarks.workers`. Also a context manager that ends it."""

    def __init__(self, module: str, engine: str) -> None:
        python = interpreter(engine)
        PEERS.mkdir(parents=True, exist_ok=True)
        self._name = module
        self._log = PEERS / f"{module}.worker.log"
        self._begun = time.perf_counter()
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [python, "-m", f"benchmarks.workers.{module}"],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def ask(self, op: str, **arguments: Any) -> Any:
        """The worker's answer; raises a one-line error if it ends instead."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"op": op, **arguments}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            last = (self._log.read_text(errors="replace").strip().splitlines() or ["it said nothing"])[-1]
            raise click.ClickException(f"the worker {self._name} ended in {op!r}: {last} (log: {self._log})")
        return json.loads(line)

    @property
    def age(self) -> float:
        """Seconds since the process was started."""
        return time.perf_counter() - self._begun

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_variant(variant: Variant, role: str, context: int) -> Worker:
    """A worker that has opened one model."""
    worker = Worker(variant.engine, variant.engine)
    try:
        worker.ask("load", model=str(variant.model(role)), role=role_of(role), threads=cores(), context=context)
    except BaseException:
        worker.close()
        raise
    return worker


@contextmanager
def open_all(variants: list[Variant], role: str, context: int) -> Iterator[dict[str, Worker]]:
    """Workers of all variants at once, by title: they wait without using a core while another is measured."""
    with ExitStack() as stack:
        workers = {}
        for variant in variants:
            print(f"opening {variant.title}, {role} model", file=sys.stderr)
            workers[variant.title] = stack.enter_context(open_variant(variant, role, context))
        yield workers


def cores() -> int:
    """Threads that every engine gets."""
    import os

    return len(os.sched_getaffinity(0))
