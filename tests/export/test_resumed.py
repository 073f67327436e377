"""An export that was killed goes on where it was, and writes the bundle that it would have written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import export_one
from tiny import tiny_checkpoint

from nudge_onnx.errors import NudgeError
from nudge_onnx.export.bundle.record import Conversion
from nudge_onnx.export.measure import calibrate
from nudge_onnx.export.quantise import weights
from nudge_onnx.export.support.journal import Journal


class KilledError(Exception):
    """Stands for the end of the process: nothing catches it."""


def run(checkpoint: Path, precision: str, folder: Path, work: Path) -> dict[str, bytes]:
    export_one(checkpoint, Conversion("base", precision), folder, work, keep=True)
    return {path.name: path.read_bytes() for path in (folder / "base").iterdir()}


def count(patched: pytest.MonkeyPatch, module: Any, name: str, killed_at: int | None = None) -> list[str]:
    """Lists the calls of a function from now on; the process ends at one of them, if that is asked for."""
    whole, calls = getattr(module, name), []

    def call(*args: Any, **kwargs: Any) -> Any:
        if len(calls) == killed_at:
            raise KilledError
        calls.append(name)
        return whole(*args, **kwargs)

    patched.setattr(module, name, call)
    return calls


def run_until_killed(
    checkpoint: Path,
    precision: str,
    work: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: Any,
    name: str,
    killed_at: int,
) -> None:
    with monkeypatch.context() as patched:
        count(patched, module, name, killed_at)
        with pytest.raises(KilledError):
            run(checkpoint, precision, work.with_name("killed"), work)


@pytest.mark.parametrize(
    ("precision", "module", "name", "killed_at"),
    [
        ("int8", calibrate, "_run", 1),
        ("int8", weights, "_eight_bits", 3),
        ("int4", weights, "four_bits", 3),
        ("int4-all", weights, "all_four_bits", 7),
    ],
)
def test_a_killed_export_goes_on_where_it_was(
    precision: str, module: Any, name: str, killed_at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, work = tiny_checkpoint(tmp_path / "model", "llama", scale=3.0), tmp_path / "work"
    with monkeypatch.context() as patched:
        in_all = count(patched, module, name)
        expected = run(checkpoint, precision, tmp_path / "whole", tmp_path / "other-work")
    assert len(in_all) > killed_at

    run_until_killed(checkpoint, precision, work, monkeypatch, module, name, killed_at)
    assert list(work.glob("unfinished-*/*.npz"))
    with monkeypatch.context() as patched:
        calls = count(patched, module, name)
        assert run(checkpoint, precision, tmp_path / "again", work) == expected
    assert len(calls) == len(in_all) - killed_at
    assert not list(work.glob("unfinished-*"))


def test_another_precision_does_not_go_on_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint, work = tiny_checkpoint(tmp_path / "model", "llama", scale=3.0), tmp_path / "work"
    run_until_killed(checkpoint, "int4", work, monkeypatch, weights, "four_bits", 3)
    assert run(checkpoint, "int8", tmp_path / "new", work) == run(
        checkpoint, "int8", tmp_path / "alone", tmp_path / "other"
    )
    assert len(list(work.glob("unfinished-*"))) == 1


def test_a_journal_that_lost_a_matrix_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint, work = tiny_checkpoint(tmp_path / "model", "llama", scale=3.0), tmp_path / "work"
    run_until_killed(checkpoint, "int4-all", work, monkeypatch, weights, "all_four_bits", 7)
    (folder,) = work.glob("unfinished-*")
    for file in folder.iterdir():
        if not is_calibration(file):
            file.unlink()
    with pytest.raises(
        NudgeError, match=r"^what was kept of an export that did not end lacks .*; choose another --work$"
    ):
        run(checkpoint, "int4-all", tmp_path / "again", work)


def is_calibration(file: Path) -> bool:
    with np.load(file) as kept:
        return "layers" in str(kept["names"])


def test_a_journal_gives_back_what_was_put_and_nothing_that_is_torn(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "kept")
    arrays = {"/layers.0/a b:0": np.arange(6, dtype=np.float32).reshape(2, 3), "bits": np.array(4)}
    journal.put("one", arrays)
    found = journal.get("one")
    assert found is not None
    assert list(found) == list(arrays)
    assert all(
        np.array_equal(found[name], array) and found[name].dtype == array.dtype for name, array in arrays.items()
    )
    assert journal.get("two") is None
    (file,) = (tmp_path / "kept").iterdir()
    file.write_bytes(file.read_bytes()[:-40])
    assert journal.get("one") is None
    journal.clear()
    assert not (tmp_path / "kept").exists()
    nowhere = Journal()
    nowhere.put("one", arrays)
    assert nowhere.get("one") is None
