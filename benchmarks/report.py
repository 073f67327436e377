"""Results as files: a table to read (Markdown), the numbers (JSON), and where and when they were measured."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks import peers
from benchmarks.places import OLDER, RESULTS, ROOT
from benchmarks.rounds import Ratio

_PACKAGES = ("nudge-onnx", "onnxruntime", "numpy", "tokenizers", "torch", "transformers", "optimum-onnx")


@dataclass
class Report:
    """What one benchmark found. `save` writes `NAME.md` and `NAME.json`; plots are named after it too.

    Where this machine stands for an older processor, that is a part of the name.
    """

    name: str
    title: str
    about: str
    """What was measured and what the numbers mean, in Markdown."""
    environment: dict[str, Any] = field(default_factory=lambda: environment())
    data: dict[str, Any] = field(default_factory=dict)
    _parts: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if OLDER:
            self.name += f"-{OLDER}"

    def table(self, caption: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Add a table; its first column is text, the others numbers."""
        self._parts.append(f"### {caption}\n\n{markdown(head, rows)}")

    def ratios(self, caption: str, ratios: Sequence[Ratio]) -> None:
        """Add a table of ratios, if there are any, and the ratios to the numbers."""
        if not ratios:
            return
        rows = [
            (r.title, f"{r.median:.2f}", f"{r.low:.2f} to {r.high:.2f}", f"{r.goal:.1f}" if r.goal else "")
            for r in ratios
        ]
        self.table(caption, ("", "median", "range", "goal"), rows)
        self.data.setdefault("ratios", {})[caption] = [asdict(r) for r in ratios]

    def picture(self, path: Path, alt: str) -> None:
        """Show a plot that was saved beside the table."""
        self._parts.append(f"![{alt}]({path.name})")

    def save(self) -> None:
        """Write the files and print the table."""
        RESULTS.mkdir(parents=True, exist_ok=True)
        self.environment["load_after"] = _load()
        text = "\n\n".join([f"# {self.title}", self.about.strip(), *self._parts, _described(self.environment)]) + "\n"
        (RESULTS / f"{self.name}.md").write_text(text, encoding="utf-8")
        numbers = {"environment": self.environment, **self.data}
        (RESULTS / f"{self.name}.json").write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
        print(text)
        print(f"written: {(RESULTS / self.name).relative_to(ROOT)}.md and .json", file=sys.stderr)


def markdown(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; columns of numbers are set to the right."""
    cells = [[str(cell) for cell in row] for row in rows]
    sides = ["---:" if any(row[i][:1].isdigit() for row in cells) else "---" for i in range(len(head))]
    lines = [head, ["---", *sides[1:]], *cells]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def environment() -> dict[str, Any]:
    """The machine and the versions, as far as they bear on speed."""
    return {
        "date": datetime.now(tz=UTC).isoformat(timespec="minutes"),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": {name: found for name in _PACKAGES if (found := _version(name))},
        "peers": peers.packages(),
        "load_before": _load(),
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    fields: dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    wide = [name for name in ("avx512_vnni", "avx_vnni", "avx512f", "avx2") if name in fields.get("flags", "").split()]
    return f"{fields.get('model name', platform.machine())} (family {fields.get('cpu family')}, " + (
        f"model {fields.get('model')}; {f'run as {OLDER}' if OLDER else ', '.join(wide[:2])})"
    )


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _load() -> list[float]:
    return [round(value, 2) for value in os.getloadavg()]


def _described(where: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in where["versions"].items())
    return (
        f"<sub>{where['date']}; {where['processor']}, {where['cores']} cores, {where['memory_gib']} GiB; "
        f"{where['system']}, Python {where['python']}; {versions}; "
        f"load average {where['load_before'][0]} before and {where['load_after'][0]} after.</sub>"
    )
