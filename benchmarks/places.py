"""Where the benchmarks find models and keep what they make."""

from __future__ import annotations

import os
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
BUNDLES = ROOT / ".cache" / "bundles"
CHECKPOINTS = ROOT / ".cache" / "checkpoints"
PEERS = ROOT / ".cache" / "peers"
MADE = ROOT / ".cache" / "benchmarks"
"""Models that only the benchmarks need: those of peers."""
GGUF = {
    "base": ROOT / ".cache" / "models" / "gemma-3-270m-q4_k_m.gguf",
    "nudge": ROOT / ".cache" / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf",
    "large": ROOT / ".cache" / "models" / "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
}
OLDER = os.environ.get("OLDER_PROCESSOR")
"""The processor that this machine stands for, if it is another (tests/processors)."""
TITLES = {"base": "Gemma-3-270m", "nudge": "SmolLM2-135M-Instruct", "large": "Qwen2.5-Coder-1.5B-Instruct"}
"""The models: those of the demo pair, by role, and the base model of the large pair."""


def there(path: Path) -> Path:
    """`path`, if it was made; raises a one-line error otherwise."""
    if not path.exists():
        raise click.ClickException(
            f"{path.relative_to(ROOT)} is missing; run `make bundles` or `make bundles-large` first"
        )
    return path


def bundle_of(model: str, precision: str) -> Path:
    """The bundle that holds a model."""
    return there(BUNDLES / (f"large-{precision}" if model == "large" else precision))


def role_of(model: str) -> str:
    """The role of a model in its bundle."""
    return "base" if model == "large" else model


def files_of(checkpoint: Path) -> list[Path]:
    """Weights and settings of a checkpoint folder."""
    return [path for path in checkpoint.iterdir() if path.suffix in (".json", ".safetensors")]


def size_of(*paths: Path) -> int:
    """Bytes of files, and of all files below folders."""
    return sum(
        file.stat().st_size
        for path in paths
        for file in (path.rglob("*") if path.is_dir() else [path])
        if file.is_file() and not file.is_symlink()
    )
