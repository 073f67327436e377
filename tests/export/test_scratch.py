"""Intermediate results: made once, under a name of their own, also where several processes want them at once."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nudge_onnx.errors import ExportError
from nudge_onnx.export.support import scratch
from nudge_onnx.export.support.scratch import fingerprint, once

MAKER = """
import sys, time
from pathlib import Path
from nudge_onnx.export.support.scratch import once
folder, log, mark = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]

def make(partial):
    with log.open("a") as file:
        file.write(mark)
    (partial / "a").write_text(mark)
    time.sleep(float(sys.argv[4]))
    (partial / "b").write_text(mark)

made = once(folder, make)
assert (made / "a").read_text() == (made / "b").read_text()
"""


def maker(folder: Path, log: Path, mark: str, seconds: float = 0.5) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", MAKER, str(folder), str(log), mark, str(seconds)])


def test_processes_that_want_one_result_make_it_once(tmp_path: Path) -> None:
    folder, log = tmp_path / "work" / "graph", tmp_path / "log"
    running = [maker(folder, log, mark) for mark in "abcd"]
    assert [process.wait(60) for process in running] == [0, 0, 0, 0]
    assert len(log.read_text()) == 1
    assert [path.name for path in folder.parent.iterdir()] == ["graph"]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_what_a_killed_process_left_is_removed_and_does_not_block(tmp_path: Path) -> None:
    folder, log = tmp_path / "work" / "graph", tmp_path / "log"
    process = maker(folder, log, "a", 600)
    while not log.exists() or not list(folder.parent.glob(".*/new/a")):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    assert maker(folder, log, "b", 0).wait(60) == 0
    assert (folder / "b").read_text() == "b"
    assert [path.name for path in folder.parent.iterdir()] == ["graph"]


def test_a_damaged_result_is_made_again(tmp_path: Path) -> None:
    made: list[Path] = []

    def make(partial: Path) -> None:
        made.append(partial)
        (partial / "model.onnx").write_bytes(b"a graph")

    folder = once(tmp_path / "graph", make)
    assert once(folder, make) == folder
    assert len(made) == 1
    for damage in (
        lambda file: file.write_bytes(b"a gra"),
        lambda file: file.write_bytes(b"a grapf"),
        lambda file: file.unlink(),
        lambda file: (file.parent / ".made").unlink(),
        lambda file: (file.parent / ".made").write_text("{"),
    ):
        damage(folder / "model.onnx")
        if (folder / "model.onnx").exists():
            # Written in the same tick of the clock it would look untouched.
            os.utime(folder / "model.onnx", (1, 1))
        before = len(made)
        assert (once(folder, make) / "model.onnx").read_bytes() == b"a graph"
        assert len(made) == before + 1
    assert [path.name for path in tmp_path.iterdir()] == ["graph"]


def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    def make(partial: Path) -> None:
        (partial / "half").write_text("")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        once(tmp_path / "work" / "graph", make)
    assert list((tmp_path / "work").iterdir()) == []


def test_a_full_disk_is_reported_with_its_folder(tmp_path: Path) -> None:
    def make(_partial: Path) -> None:
        raise RuntimeError("write failed: No space left on device")

    with pytest.raises(OSError, match="No space left") as caught:
        once(tmp_path / "work" / "graph", make)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path / "work"))


def test_a_folder_that_cannot_be_written_is_one_line_and_what_is_there_is_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for work in (tmp_path / "file", Path("/proc/self")):
        if work.exists():
            with pytest.raises(ExportError, match=r"cannot be written .*; choose another --work"):
                once(work / "graph", lambda _partial: None)


def test_a_whole_result_needs_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = once(tmp_path / "graph", lambda partial: (partial / "a").write_text("a"))
    monkeypatch.setattr(scratch, "locked", None)
    assert once(folder, lambda _partial: None) == folder


def test_the_fingerprint_changes_with_files_and_with_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps({}))
    first = fingerprint([file])
    assert fingerprint([file]) == first
    for library in ("optimum", "transformers", "onnxruntime"):
        with monkeypatch.context() as patch:
            known = scratch.version
            patch.setattr(scratch, "version", lambda name, own=library, known=known: known(name) + "x" * (name == own))
            assert fingerprint([file]) != first
    file.write_text(json.dumps({"a": 1}))
    assert fingerprint([file]) != first
