"""Exports beside each other, and exports that are interrupted at an awkward moment, as processes of their own."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import tiny_checkpoint

from nudge_onnx.bundle import Bundle
from nudge_onnx.export.cli import main

Pair = tuple[Path, Path]
PROGRAM = "import torch; torch.set_num_threads(1); from nudge_onnx.export.cli import main; main()"


def command(pair: Pair, output: Path, *options: str | Path, program: str = PROGRAM) -> list[str]:
    arguments = ["--base", pair[0], "--nudge", pair[1], "--output", output, *options]
    return [sys.executable, "-c", program, *map(str, arguments)]


def start(*arguments: object, **options: object) -> subprocess.Popen[str]:
    return subprocess.Popen(command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)  # type: ignore[arg-type, call-overload, no-any-return]


def graphs(bundle: Path) -> dict[str, str]:
    files = [path for path in sorted(bundle.rglob("*")) if path.name.startswith("model.onnx")]
    assert files
    return {path.relative_to(bundle).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def pairs(tiny_pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> tuple[Pair, Pair]:
    """Two pairs that share their nudging model."""
    return tiny_pair, (tiny_checkpoint(tmp_path_factory.mktemp("other") / "base", "llama", seed=9), tiny_pair[1])


@pytest.fixture(scope="module")
def alone(pairs: tuple[Pair, Pair], tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    """The graphs of each pair, exported one after the other."""
    folder = tmp_path_factory.mktemp("alone")
    for number, pair in enumerate(pairs):
        main(command(pair, folder / str(number), "--precision", "int8")[3:], standalone_mode=False)
    return [graphs(folder / str(number)) for number in range(len(pairs))]


def test_exports_in_one_work_folder_give_what_each_gives_alone(
    pairs: tuple[Pair, Pair], alone: list[dict[str, str]], tmp_path: Path
) -> None:
    work = ("--work", tmp_path / "work", "--precision", "int8")
    # First nothing is there and what both need is made once; then all is there and only the calibration differs.
    for turn in ("cold", "warm"):
        running = [start(pair, tmp_path / f"{turn}-{number}", *work) for number, pair in enumerate(pairs)]
        for number, process in enumerate(running):
            _, err = process.communicate(timeout=300)
            assert process.returncode == 0, err
            Bundle.open(tmp_path / f"{turn}-{number}").verify()
            assert graphs(tmp_path / f"{turn}-{number}") == alone[number]
    left = [path.name for path in (tmp_path / "work").iterdir()]
    assert len(left) == 3
    assert all(name.startswith("graph-") for name in left)


def test_a_damaged_graph_in_the_work_folder_is_made_again(
    pairs: tuple[Pair, Pair], alone: list[dict[str, str]], tmp_path: Path
) -> None:
    options = ("--work", tmp_path / "work", "--precision", "int8")
    main(command(pairs[0], tmp_path / "first", *options)[3:], standalone_mode=False)
    for graph in (tmp_path / "work").glob("graph-*/model.onnx"):
        graph.write_bytes(graph.read_bytes()[:-100])
    main(command(pairs[0], tmp_path / "second", *options)[3:], standalone_mode=False)
    assert graphs(tmp_path / "second") == alone[0]


def test_a_full_disk_of_the_work_folder_is_reported_as_that(
    tiny_pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import nudge_onnx.export.trace.traced_graph as module

    def full(*_: object) -> None:
        raise RuntimeError("No space left on device")

    monkeypatch.setattr(module, "_export", full)
    for options, disk in ((("--work", tmp_path / "work"), tmp_path / "work"), ((), tmp_path / "out")):
        with pytest.raises(Exception, match=r"the disk of .* is full") as caught:
            main(command(tiny_pair, tmp_path / "out" / "bundle", *options)[3:], standalone_mode=False)
        assert f"the disk of {disk} is full" in str(caught.value)
        assert list((tmp_path / "out").iterdir()) == []


def test_a_work_folder_that_cannot_be_made_is_one_line(tiny_pair: Pair, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = subprocess.run(
        command(tiny_pair, tmp_path / "bundle", "--work", tmp_path / "file" / "work"),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "cannot be written" in done.stderr.splitlines()[-1]
    assert "choose another --work" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


SWALLOWED = """
import os, signal, sys

class Finder:
    # As an import does whose module catches everything.
    def find_spec(self, name, path=None, target=None):
        if name == "transformers" and Finder.left:
            Finder.left = False
            try:
                os.kill(os.getpid(), signal.{name})
            except BaseException:
                pass

Finder.left = True
sys.meta_path.insert(0, Finder())
from nudge_onnx.export.cli import main
assert not {{"torch", "transformers"}} & set(sys.modules)
main()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_that_an_import_swallows_still_ends_the_export(
    tiny_pair: Pair, tmp_path: Path, name: str, status: int
) -> None:
    program = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)" + SWALLOWED.format(name=name)
    done = subprocess.run(
        command(tiny_pair, tmp_path / "out" / "bundle", program=program), capture_output=True, text=True, check=False
    )
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists() or list((tmp_path / "out").iterdir()) == []
