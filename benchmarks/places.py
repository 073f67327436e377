"""Where the benchmarks find models and keep what they make."""

from __future__ import annotations

import os
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
BUNDLES = ROOT / ".cache" / "bundles"
CHECKPOINTS = ROOT / ".cache" / "checkpoints"
EXPORTS = ROOT / ".cache" / "work"
PEERS = ROOT / ".cache" / "peers"
MADE = ROOT / ".cache" / "benchmarks"
"""Models that only the benchmarks need: those of peers, and the cost-scaled pair."""
GGUF = {
    "base": ROOT / ".cache" / "models" / "gemma-3-270m-q4_k_m.gguf",
    "nudge": ROOT / ".cache" / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf",
}
OLDER = os.environ.get("OLDER_PROCESSOR")
"""The processor that this machine stands for, if it is another (tests/processors)."""
TITLES = {"base": "Gemma-3-270m", "nudge": "SmolLM2-135M-Instruct"}


def there(path: Path) -> Path:
    """`path`, if `make bundles` has made it; raises a one-line error otherwise."""
    if not path.exists():
        raise click.ClickException(f"{path.relative_to(ROOT)} is missing; run `make bundles` first")
    return path


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
