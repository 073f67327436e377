"""What quantisation costs in quality, and the frontier of quality, speed and size."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.engines import open_variant
from benchmarks.models import VARIANTS
from benchmarks.places import MADE, RESULTS, TITLES, size_of
from benchmarks.plots import cloud, panels
from benchmarks.report import Report
from benchmarks.single import ROLES, chosen
from benchmarks.texts import whole_text

TOKENS = 640
REFERENCE = "transformers fp32"
DEFAULT = [title for title in VARIANTS if title != REFERENCE and "pruned" not in title]
ABOUT = """
Against PyTorch in fp32 of the same weights (the two GGUFs, dequantised), on the first {count} tokens of
benchmarks/text.txt, read in one pass by each engine: Kullback-Leibler divergence in nats a token, the share of
positions with the same first choice, and the perplexity of the text. MB are those of the model's files without a
tokenizer; a GGUF has its tokenizer inside. llama.cpp runs the GGUF's own numbers, so its divergence is that of its
arithmetic alone.
"""
_ROWS = 32


def quality(only: Sequence[str] = (), tokens: int = TOKENS) -> None:
    """Measure divergences and write the results."""
    report = Report("quality", "Quality", ABOUT.format(count=tokens))
    MADE.mkdir(parents=True, exist_ok=True)
    for role in ROLES:
        ids = whole_text(role)[:tokens]
        with TemporaryDirectory(dir=MADE) as folder:
            reference = _logits(REFERENCE, role, ids, Path(folder) / "reference.npy")
            found = {REFERENCE: compared(reference, reference, ids)}
            for title in chosen(only, DEFAULT):
                path = Path(folder) / "other.npy"
                found[title] = compared(reference, _logits(title, role, ids, path), ids)
                path.unlink()
        sizes = {title: size_of(*VARIANTS[title].files(role)) / 1e6 for title in found}
        report.table(
            TITLES[role],
            ("", "weights", "MB", "KL", "top-1", "perplexity"),
            [
                (
                    title,
                    VARIANTS[title].weights,
                    f"{sizes[title]:.0f}",
                    f"{one['kl']:.2g}" if title != REFERENCE else "",
                    f"{100 * one['top1']:.1f} %" if title != REFERENCE else "",
                    f"{one['perplexity']:.2f}",
                )
                for title, one in sorted(found.items(), key=lambda item: item[1]["kl"])
            ],
        )
        report.data[role] = {title: {**one, "mb": sizes[title]} for title, one in found.items()}
    _frontier(report)
    report.save()


def _logits(title: str, role: str, ids: list[int], path: Path) -> npt.NDArray[np.float32]:
    print(f"quality, {role} model: {title}", file=sys.stderr)
    with open_variant(VARIANTS[title], role, len(ids) + 8) as worker:
        worker.ask("logits", ids=ids, path=str(path))
    logits: npt.NDArray[np.float32] = np.load(path, mmap_mode="r")
    return logits


def compared(
    reference: npt.NDArray[np.float32], other: npt.NDArray[np.float32], ids: Sequence[int]
) -> dict[str, float]:
    """Divergence, agreement and perplexity of `other`; both are logits `[len(ids), vocabulary]`."""
    kl, agreed, loss = 0.0, 0, 0.0
    for start, ours, theirs in _parts(reference, other):
        kl += float((np.exp(ours) * (ours - theirs)).sum())
        agreed += int((ours.argmax(-1) == theirs.argmax(-1)).sum())
        follows = np.array(ids[start + 1 : start + 1 + len(theirs)])
        loss -= float(theirs[np.arange(len(follows)), follows].sum())
    count = len(ids)
    return {"kl": max(kl, 0.0) / count, "top1": agreed / count, "perplexity": math.exp(loss / (count - 1))}


def _parts(
    one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]
) -> Iterator[tuple[int, npt.NDArray[np.float64], npt.NDArray[np.float64]]]:
    """Log-probabilities, a few rows at a time: a whole text's do not fit in memory."""
    for start in range(0, len(one), _ROWS):
        yield start, _log_softmax(one[start : start + _ROWS]), _log_softmax(other[start : start + _ROWS])


def _log_softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    shifted = logits - logits.max(-1, keepdims=True).astype(np.float64)
    result: npt.NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return result


def _frontier(report: Report) -> None:
    """Divergence over size, and over speed where `decode` was measured before; one row of plots a role."""
    speeds = _decode_speeds()
    for role in ROLES:
        points: Mapping[str, Mapping[str, Any]] = report.data[role]
        shown = {title: one for title, one in points.items() if title != REFERENCE}
        titles = [f"{TITLES[role]}: quality and size", *([f"{TITLES[role]}: quality and speed"] if speeds else [])]
        with panels(f"frontier-{role}", titles, (5.6, 4.2)) as (axes, path):
            divergence = {title: one["kl"] for title, one in shown.items()}
            cloud(axes[0], {title: one["mb"] for title, one in shown.items()}, divergence, "MB (smaller is better)")
            if speeds:
                label = "tokens per second (larger is better)"
                cloud(axes[1], speeds[role], divergence, label)
        report.picture(path, f"Divergence from PyTorch fp32 over size and speed, {TITLES[role]}")


def _decode_speeds() -> dict[str, dict[str, float]]:
    path = RESULTS / "decode.json"
    if not path.is_file():
        print("quality: no results of `decode` yet, so the frontier has no speed", file=sys.stderr)
        return {}
    data = json.loads(path.read_text(encoding="utf-8"))
    return {role: data[role]["tokens_per_second"] for role in ROLES}
