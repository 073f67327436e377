"""Run the conformance vectors and the tests of rows on arm64, under qemu-user (`make test-arm64`).

An arm64 Python of Debian's packages and the aarch64 wheels of what the runtime needs are laid out in .cache/arm64;
nothing of the system changes. PyTorch is not among them: this machine exports first, and arm64 reads what it kept.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / ".cache" / "arm64"
SYSTEM = HOME / "system"
QEMU = "qemu-aarch64"
# Debian's names; the second is a library of the wheels.
DEBIAN = ("python3", "libstdc++6")
WHEELS = (
    "onnxruntime", "numpy", "tokenizers", "jinja2", "click", "onnx", "gguf", "pytest", "hypothesis", "jsonschema",
)  # fmt: skip
GLIBC = (17, 24, 26, 27, 28, 31, 34)  # of the tags manylinux_2_N that Debian 12 can run
# By what a kernel is chosen: without dot products (Raspberry Pi 4), with them (Pi 5), with matrix products and SVE too.
# Each with its number and features in /proc/cpuinfo: ONNX Runtime reads there that a Cortex-A76 has dot products.
PROCESSORS = {
    "cortex-a72": ("0xd08", "asimd"),
    "cortex-a76": ("0xd0b", "asimd asimddp"),
    "max": ("0xd49", "asimd asimddp sve bf16 i8mm"),
}
TESTS = {
    "conformance": ["tests/conformance/test_conformance.py"],
    "rows": [
        "tests/passes/test_quantise.py",
        "tests/passes/test_finishing.py",
        "tests/runtime/test_decoder.py",
        *(str(path.relative_to(ROOT)) for path in sorted(ROOT.glob("tests/runtime/test_row*.py"))),
    ],
}
# Emulated, a test takes 50 times as long: of the conformance vectors one way of three to read ahead.
SELECTED = {
    "conformance": "not off and not 4]",
    "rows": "last_bit or whatever or (bits_of_a_row and llama) or test_row",
}


def lay_out_system() -> None:
    """Unpack an arm64 Python, with all that it depends on, from the archives that this Debian's apt knows."""
    if (SYSTEM / "usr/bin/python3").exists():
        return
    for program in ("apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            sys.exit(f"make test-arm64 needs {program}: it takes an arm64 Python from Debian's packages")
    apt = HOME / "apt"
    for folder in (apt / "lists/partial", apt / "archives/partial"):
        folder.mkdir(parents=True, exist_ok=True)
    (apt / "status").touch()  # nothing is installed there, so that everything is fetched
    (apt / "apt.conf").write_text(
        f'APT::Architecture "arm64"; APT::Architectures {{ "arm64"; }}; APT::Install-Recommends "false";\n'
        f'Dir::State "{apt}"; Dir::State::lists "{apt}/lists"; Dir::State::status "{apt}/status";\n'
        f'Dir::Cache "{apt}"; Dir::Cache::archives "{apt}/archives"; Debug::NoLocking "true";\n'
    )
    variables = {**os.environ, "APT_CONFIG": str(apt / "apt.conf"), "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "-y", "--download-only", *DEBIAN]):
        if subprocess.run(["apt-get", "-qq", *command], env=variables, check=False).returncode:
            sys.exit("make test-arm64 could not fetch Debian's arm64 Python: see apt's message above")
    part = HOME / "system.part"
    shutil.rmtree(part, ignore_errors=True)
    for package in sorted((apt / "archives").glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", package, part], check=True)
    part.rename(SYSTEM)


def lay_out_packages() -> Path:
    """The aarch64 wheels at the versions of constraints.txt, and this source tree; the folders for PYTHONPATH."""
    constraints = ROOT / "constraints.txt"
    packages, stamp = HOME / "packages", HOME / "packages.txt"
    wanted = " ".join(WHEELS) + "\n" + constraints.read_text()
    if not stamp.exists() or stamp.read_text() != wanted:
        shutil.rmtree(packages, ignore_errors=True)
        version = next((SYSTEM / "usr/bin").glob("python3.*")).name.removeprefix("python")
        platforms = [f"--platform=manylinux_2_{minor}_aarch64" for minor in GLIBC]
        chosen = ["--only-binary=:all:", "--implementation=cp", f"--python-version={version}", *platforms]
        _pip(packages, "--platform=manylinux2014_aarch64", *chosen, "-c", str(constraints), *WHEELS)
        stamp.write_text(wanted)
    shutil.rmtree(HOME / "source", ignore_errors=True)
    _pip(HOME / "source", "--no-deps", str(ROOT))
    return packages


def _pip(target: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "install", "-qqq", "--disable-pip-version-check", "--target", target]
    subprocess.run([*command, *arguments], check=True)


def show_processor(part: str, features: str) -> None:
    """Let arm64 programs read of an arm64 processor: ONNX Runtime does not survive an x86 one in /proc/cpuinfo."""
    known = ("CPU implementer\t: 0x41", "CPU architecture: 8", "CPU variant\t: 0x1", f"CPU part\t: {part}")
    entry = "\n".join((f"Features\t: fp {features}", *known, "CPU revision\t: 0"))
    path = SYSTEM / "proc/cpuinfo"
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(f"processor\t: {number}\n{entry}\n\n" for number in range(os.cpu_count() or 1)))


def run(processor: str, selected: str | None, tests: Sequence[str], packages: Path | None) -> bool:
    """Run tests under qemu as `processor`, or with no `packages` on this machine, which keeps its exports for qemu."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "LD_", "PYTEST"))}
    variables["NUDGE_TEST_EXPORTS"] = str(HOME / "exports")
    python, options = [sys.executable], ["-p", "no:cacheprovider", "--tb=short", "--disable-warnings"]
    if packages is not None:
        show_processor(*PROCESSORS[processor])
        # The installed copy of the package, not the source tree: there the rooms export/ and runtime/ are elsewhere.
        variables["PYTHONPATH"] = f"{HOME / 'source'}:{packages}"
        python = [
            QEMU,
            "-cpu",
            processor,
            "-L",
            str(SYSTEM),
            str(SYSTEM / "usr/bin/python3"),
            "-B",
            "-P",
        ]
        options += ["-o", "pythonpath="]
    if selected:
        options += ["-k", selected]
    command = [*python, "-m", "pytest", *options, *tests]
    return subprocess.run(command, cwd=ROOT, env=variables, check=False).returncode == 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tests as each arm64 processor that is named, or all; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("processors", nargs="*", metavar="CPU", help=f"of {', '.join(PROCESSORS)}; all by default")
    wanted = parser.parse_args(arguments).processors or list(PROCESSORS)
    if unknown := set(wanted) - set(PROCESSORS):
        parser.error(f"no such processor: {', '.join(sorted(unknown))}")
    if shutil.which(QEMU) is None:
        sys.exit(f"make test-arm64 needs {QEMU} (Debian's qemu-user); on an arm64 machine, make test is this test")
    HOME.mkdir(parents=True, exist_ok=True)
    lay_out_system()
    packages = lay_out_packages()
    shutil.rmtree(HOME / "exports", ignore_errors=True)
    failed = []
    for processor in ("this machine", *wanted):
        for kind, tests in TESTS.items():
            here = processor == "this machine"
            print(f"\n== {kind} on {processor}", flush=True)
            start = time.monotonic()
            if not run(processor, SELECTED[kind], tests, None if here else packages):
                failed.append(f"{kind} on {processor}")
            print(f"== {time.monotonic() - start:.0f} s", flush=True)
    print("\nfailed: " + "; ".join(failed) if failed else f"\nall passed on {', '.join(wanted)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
