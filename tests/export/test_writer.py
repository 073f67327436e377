"""What `--overwrite` may replace, and what is left where an export cannot be put in place."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nudge_onnx.bundle import Bundle
from nudge_onnx.errors import ExportError
from nudge_onnx.export.bundle.writer import check_target, staged

WORD = Path(__file__).parent.parent / "conformance" / "bundles" / "word"


def contents(folder: Path) -> dict[str, bytes | None]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def bundle_at(folder: Path) -> Path:
    return Path(shutil.copytree(WORD, folder))


def replace(target: Path, during: Callable[[], object] = lambda: None, *, overwrite: bool = True) -> None:
    """Put a bundle called `new` at `target`; `during` is what happens meanwhile."""
    with staged(target, overwrite=overwrite) as staging:
        shutil.copytree(WORD, staging.bundle, dirs_exist_ok=True)
        data = json.loads((WORD / "nudge.json").read_text(encoding="utf-8")) | {"name": "new"}
        (staging.bundle / "nudge.json").write_text(json.dumps(data), encoding="utf-8")
        during()


def test_a_bundle_is_replaced_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    target = bundle_at(tmp_path / "bundle")
    replace(target)
    assert Bundle.open(target).manifest.name == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


@pytest.mark.parametrize("name", ["thesis.txt", "src/main.py", "base/notes.txt", "base/model.onnx.bak", ".git/config"])
def test_a_bundle_with_other_files_is_left_alone_and_they_are_named(tmp_path: Path, name: str) -> None:
    target = bundle_at(tmp_path / "bundle")
    (target / name).parent.mkdir(exist_ok=True)
    (target / name).write_text("a year of work")
    before = contents(target)
    with pytest.raises(ExportError, match=f"holds what is not the bundle's \\({name.split('/')[0]}"):
        replace(target)
    assert contents(target) == before
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_an_empty_folder_and_a_link_in_a_bundle_are_other_files(tmp_path: Path) -> None:
    target = bundle_at(tmp_path / "bundle")
    (target / "mine").mkdir()
    with pytest.raises(ExportError, match=r"\(mine/\)"):
        check_target(target, overwrite=True)
    (target / "mine").rmdir()
    (target / "base").rename(tmp_path / "elsewhere")
    (target / "base").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ExportError, match=r"\(base\)"):
        check_target(target, overwrite=True)


@pytest.mark.parametrize("text", ["{}", "dear diary", '{"format": "nudge-onnx-bundle"}', '{"name": "left-pad"}', "[]"])
def test_a_folder_whose_nudge_json_is_no_manifest_is_left_alone(tmp_path: Path, text: str) -> None:
    target = tmp_path / "project"
    (target / "src").mkdir(parents=True)
    (target / "nudge.json").write_text(text)
    (target / "src" / "main.py").write_text("print()")
    before = contents(target)
    with pytest.raises(ExportError, match=r"holds a nudge\.json that is no manifest of a bundle"):
        replace(target)
    assert contents(target) == before


def test_what_is_put_into_a_bundle_during_the_export_stays_and_so_does_the_new_one(tmp_path: Path) -> None:
    target = bundle_at(tmp_path / "bundle")
    with pytest.raises(
        ExportError, match=r"bundle holds what is not .*\(thesis\.txt\).*; the new bundle is at "
    ) as caught:
        replace(target, lambda: (target / "thesis.txt").write_text("a year of work"))
    assert (target / "thesis.txt").read_text() == "a year of work"
    assert Bundle.open(target).manifest.name != "new"
    assert Bundle.open(Path(str(caught.value).rpartition(" is at ")[2])).manifest.name == "new"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_bundle_that_another_export_made_meanwhile_stays(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    with pytest.raises(ExportError, match=r"exists; replace it with --overwrite.*; the new bundle is at "):
        replace(target, lambda: bundle_at(target), overwrite=False)
    assert Bundle.open(target).manifest.name != "new"
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("name", ["file/bundle", "file/deeper/bundle"])
def test_a_target_below_a_file_is_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match=r"cannot be written .*; choose another --output"):
        replace(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="a folder that nobody can write")
def test_a_target_where_nothing_can_be_written_is_one_line() -> None:
    with pytest.raises(ExportError, match=r"cannot be written .*; choose another --output"):
        replace(Path("/proc/self/bundle"))


@pytest.mark.skipif(sys.platform == "win32" or not hasattr(os, "geteuid") or os.geteuid() == 0, reason="not for root")
def test_a_forbidden_target_is_one_line(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(ExportError, match=r"cannot be written \(Permission denied\); choose another --output"):
            replace(tmp_path / "bundle")
    finally:
        tmp_path.chmod(0o700)
