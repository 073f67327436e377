"""Makes the models of the peers, each with that peer's own tools, once."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import click

from benchmarks import peers
from benchmarks.places import MADE, ROOT, files_of
from nudge_onnx.export.support.scratch import fingerprint, once
from nudge_onnx.export.trace.traced_graph import whole_graph


def _run(peer: str, *command: str | Path) -> None:
    """Run a module of `benchmarks.workers` in a peer's environment."""
    log = MADE / f"{peer}.log"
    with log.open("w") as stream:
        result = subprocess.run(
            [peers.python_of(peer), "-m", *command], cwd=ROOT, stdout=stream, stderr=stream, check=False
        )
    if result.returncode:
        last = (log.read_text(errors="replace").strip().splitlines() or ["it said nothing"])[-1]
        raise click.ClickException(f"{' '.join(map(str, command[:1]))} failed: {last} (log: {log.relative_to(ROOT)})")


def _named(checkpoint: Path, role: str, title: str) -> Path:
    MADE.mkdir(parents=True, exist_ok=True)
    return MADE / f"{title.replace(', ', '-').replace(' ', '-')}-{role}-{fingerprint(files_of(checkpoint))}"


def genai_model(checkpoint: Path, role: str, title: str, precision: str, options: Mapping[str, str]) -> Path:
    """A model folder of genai's builder."""

    def make(partial: Path) -> None:
        print(f"models: genai's builder makes {title} of the {role} model", file=sys.stderr)
        extra = [f"{key}={value}" for key, value in options.items()]
        _run(
            "genai-builder",
            "benchmarks.workers.genai_builder",
            *("-i", checkpoint, "-o", partial, "-p", precision, "-e", "cpu", "-c", partial / "cache"),
            *(["--extra_options", *extra] if extra else []),
        )
        shutil.rmtree(partial / "cache", ignore_errors=True)

    return once(_named(checkpoint, role, f"genai {title}"), make)


def optimum_export(checkpoint: Path, role: str) -> Path:
    """The folder that Optimum exports."""
    return once(_named(checkpoint, role, "optimum"), lambda partial: whole_graph(checkpoint, partial))


def optimum_dynamic(checkpoint: Path, role: str) -> Path:
    """That folder, quantised by Optimum's quantiser for this kind of processor."""
    source = optimum_export(checkpoint, role)

    def make(partial: Path) -> None:
        print(f"models: Optimum quantises the {role} model", file=sys.stderr)
        _run("optimum", "benchmarks.workers.optimum_quantiser", source, partial)

    return once(_named(checkpoint, role, "optimum dynamic int8"), make)
