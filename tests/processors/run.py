"""Run what differs by processor as older ones, one after the other (`make test-processors`).

The tests run once as this machine, which keeps what they export, and then with those exports as each older processor:
what was exported here has to hold there. Where no way leads to a processor, a line says why, and it is left out.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from levels import LEVELS, Way, faulting_library, way_to

ROOT = Path(__file__).resolve().parents[2]
TESTS = (
    "tests/conformance/test_conformance.py",
    "tests/passes/test_quantise.py",
    "tests/passes/test_finishing.py",
    "tests/runtime/test_decoder.py",
    *(str(path.relative_to(ROOT)) for path in sorted(ROOT.glob("tests/runtime/test_row*.py"))),
    "tests/runtime/batching/test_same_answers.py",
)
# An emulator takes a hundred times as long: there one way of three to read ahead, the rows of one architecture,
# and a few short texts at once.
FEW = ["-k", "auto or last_bit or (bits_of_a_row and llama) or not_believed or (go_together and short)"]


def pytest(way: Way, exports: Path, *options: str) -> bool:
    """Run the tests in a certain way; whether all passed."""
    command = [
        *way.prefix,
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "--tb=short",
        "--disable-warnings",
        *options,
    ]
    variables = {**os.environ, **way.variables, "NUDGE_TEST_EXPORTS": str(exports)}
    return subprocess.run([*command, *TESTS], cwd=ROOT, env=variables, check=False).returncode == 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the levels that are named, or all; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [level.name for level in LEVELS]
    parser.add_argument("levels", nargs="*", metavar="LEVEL", help=f"of {', '.join(names)}; all by default")
    wanted = parser.parse_args(arguments).levels or names
    if unknown := set(wanted) - set(names):
        parser.error(f"no such level: {', '.join(sorted(unknown))}")

    with TemporaryDirectory() as folder:
        library = faulting_library(Path(folder))
        ways = {level: way_to(level, library) for level in LEVELS if level.name in wanted}
        for level, way in ways.items():
            if isinstance(way, str):
                print(f"{level.name} ({level.example}): left out, {way}", flush=True)
        ways_open = {level: way for level, way in ways.items() if isinstance(way, Way)}
        if not ways_open:
            return 0
        exports = Path(folder) / "exports"
        runs = [("this processor", Way(""))]
        runs += [(f"{level.name} ({level.example}; {way.title})", way) for level, way in ways_open.items()]
        failed = []
        for title, way in runs:
            print(f"\n== as {title}", flush=True)
            start = time.monotonic()
            if not pytest(way, exports, *(FEW if way.slow else ())):
                failed.append(title)
            print(f"== {time.monotonic() - start:.0f} s", flush=True)
    print("\nfailed as: " + "; ".join(failed) if failed else f"\nall passed as {len(runs)} processors")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
