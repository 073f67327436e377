"""The environments of the peers, each with what that peer's users install, under `.cache/peers`."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from benchmarks.places import OLDER, PEERS, ROOT, size_of

_STAMP = "peer.json"


def _pinned(*names: str) -> tuple[str, ...]:
    """Packages at the versions that the tests run with."""
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    found = {re.split("[=;]", line)[0]: line.split(";")[0].strip() for line in text.splitlines() if "==" in line}
    return tuple(found[name] for name in names)


@dataclass(frozen=True)
class Peer:
    """An environment: its packages, and what only the measuring needs besides them."""

    title: str
    packages: tuple[str, ...]
    first: tuple[str, ...] = ()
    """Installed alone and before: a torch that is there keeps others from asking for a larger build of it."""
    also: tuple[str, ...] = ()
    """Needed by the benchmarks, and not counted as the peer's size."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """For the installation."""


_TORCH = _pinned("torch")
_GENAI = ("onnxruntime-genai==0.18.0", *_pinned("onnxruntime", "numpy"))
_ENVIRONMENTS = {
    "ours": Peer("nudge-onnx[cpu]", (f"{ROOT}[cpu]", *_pinned("onnxruntime", "tokenizers", "numpy"))),
    "transformers": Peer("torch (CPU build), transformers", _pinned("transformers", "tokenizers", "numpy"), _TORCH),
    "optimum": Peer(
        "optimum-onnx[onnxruntime], torch (CPU build)",
        ("optimum-onnx[onnxruntime]==0.1.0", *_pinned("transformers", "optimum", "onnxruntime", "onnx", "numpy")),
        _TORCH,
    ),
    "genai": Peer("onnxruntime-genai", _GENAI, also=_pinned("tokenizers")),
    # The builder reads checkpoints with transformers 5 and torch. Answering needs neither.
    "genai-builder": Peer(
        "onnxruntime-genai with its model builder",
        (*_GENAI, *_pinned("onnx"), "onnx_ir==1.1.0", "transformers==5.24.0"),
        _TORCH,
    ),
    # Compiled here, for this processor; for one it stands for, by what they have in common: AVX2, FMA and F16C.
    "llamacpp": Peer(
        "llama-cpp-python",
        ("llama-cpp-python==0.3.36", *_pinned("numpy")),
        variables={"CMAKE_ARGS": f"-DGGML_NATIVE={'OFF' if OLDER else 'ON'}"},
    ),
}
NAMES = tuple(_ENVIRONMENTS)


def title_of(name: str) -> str:
    """What a peer is."""
    return _ENVIRONMENTS[name].title


def packages() -> dict[str, list[str]]:
    """What is installed for each peer, at which versions; our own is this source tree."""
    return {name: [*peer.first, *peer.packages] for name, peer in _ENVIRONMENTS.items() if name != "ours"}


def python_of(name: str) -> Path:
    """The interpreter of a peer's environment, which is made if it is not there or was made of other packages."""
    peer, folder = _ENVIRONMENTS[name], _folder(name)
    wanted = [*peer.first, *peer.packages, *peer.also]
    if _stamp(folder).get("packages") != wanted:
        size = _make(name, peer, folder)
        (folder / _STAMP).write_text(json.dumps({"packages": wanted, "bytes": size}, indent=2) + "\n")
    return folder / "bin" / "python"


def installed_bytes(name: str) -> int:
    """Size of a peer's packages, without pip and without what only the benchmarks need."""
    python_of(name)
    size: int = _stamp(_folder(name))["bytes"]
    return size


def _folder(name: str) -> Path:
    return PEERS / (f"{name}-{OLDER}" if OLDER and _ENVIRONMENTS[name].variables else name)


def _stamp(folder: Path) -> dict[str, Any]:
    stamp = folder / _STAMP
    return dict(json.loads(stamp.read_text())) if stamp.is_file() else {}


def _make(name: str, peer: Peer, folder: Path) -> int:
    """Fill `folder` anew and return the size of what the peer's users install."""
    print(f"peers: making {name} ({', '.join([*peer.first, *peer.packages])})", file=sys.stderr)
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    packages = next((folder / "lib").glob("python*/site-packages"))
    own = size_of(packages)
    _install(name, folder, peer.first, peer.variables)
    _install(name, folder, peer.packages, peer.variables)
    size = size_of(packages) - own
    _install(name, folder, peer.also, peer.variables)
    return size


def _install(name: str, folder: Path, packages: Sequence[str], variables: Mapping[str, str]) -> None:
    if not packages:
        return
    command = [str(folder / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check", *packages]
    log = PEERS / f"{name}.log"
    with log.open("w") as stream:
        result = subprocess.run(command, stdout=stream, stderr=stream, env={**os.environ, **variables}, check=False)
    if result.returncode:
        raise click.ClickException(f"pip could not install {' '.join(packages)}; see {log.relative_to(ROOT)}")
