"""The cache of prepared graphs: the same answers to the last bit, and nothing that was damaged is used."""

from __future__ import annotations

import json
import shutil
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from opened import loaded
from pairs import Pair
from real import real_bundle

from nudge_onnx import NudgedLM
from nudge_onnx.bundle import Bundle
from nudge_onnx.cli import main
from nudge_onnx.runtime.inference.decoder import Decoder
from nudge_onnx.runtime.inference.opening import open_model
from nudge_onnx.runtime.sessions.creation import create_session


def logits(bundle: Bundle, role: str, cache_dir: Path | None) -> np.ndarray:
    """Of a prompt, of single steps and of several ids at once."""
    decoder = Decoder(open_model(bundle, role, ["cpu"], cache_dir=cache_dir))
    ids = [5 + number * 7 % 200 for number in range(90)]
    parts = [decoder.prefill(ids[:70]).copy()]
    parts += [decoder.feed([token]).copy() for token in ids[70:76]]
    parts += [decoder.feed(ids[76:], rows=len(ids) - 76).copy()]
    return np.concatenate(parts)


def entries(cache_dir: Path) -> list[Path]:
    return sorted(path for path in cache_dir.iterdir() if path.is_dir())


@pytest.fixture
def cache_dir(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def test_a_cached_graph_gives_the_same_bits(tiny_word_pair: Pair, cache_dir: Path) -> None:
    bundle = Bundle.open(tiny_word_pair.bundle)
    for role in ("base", "nudge"):
        plain = logits(bundle, role, None)
        for _ in ("written", "found"):
            np.testing.assert_array_equal(logits(bundle, role, cache_dir), plain)
    assert [path.name.split("-")[0] for path in entries(cache_dir)] == ["base", "nudge"]


@pytest.mark.real
@pytest.mark.parametrize("precision", ["fp32", "int8", "int4"])
def test_a_cached_real_graph_gives_the_same_bits(precision: str, cache_dir: Path) -> None:
    bundle = Bundle.open(real_bundle(precision))
    for role in ("base", "nudge"):
        plain = logits(bundle, role, None)
        for _ in ("written", "found"):
            np.testing.assert_array_equal(logits(bundle, role, cache_dir), plain)
        shutil.rmtree(cache_dir)


def test_a_second_load_writes_nothing(tiny_word_pair: Pair, cache_dir: Path) -> None:
    with NudgedLM.load(tiny_word_pair.bundle, cache_dir=cache_dir) as lm:
        answer = lm.generate("the cat", max_new_tokens=16)
    before = {path: path.stat().st_mtime_ns for path in cache_dir.rglob("*")}
    opened: list[Path] = []

    def create(path: Path, *rest: Any) -> Any:
        opened.append(path)
        return create_session(path, *rest)

    with loaded(tiny_word_pair.bundle, create, cache_dir=cache_dir) as lm:
        assert lm.generate("the cat", max_new_tokens=16).pieces == answer.pieces
    assert {path: path.stat().st_mtime_ns for path in cache_dir.rglob("*")} == before
    assert len(opened) == 2
    assert all(path.is_relative_to(cache_dir) for path in opened)


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "record", "foreign record"])
def test_a_damaged_entry_is_made_anew(tiny_word_pair: Pair, cache_dir: Path, damage: str) -> None:
    bundle = Bundle.open(tiny_word_pair.bundle)
    plain = logits(bundle, "base", cache_dir)
    (entry,) = entries(cache_dir)
    largest = max(entry.iterdir(), key=lambda path: path.stat().st_size)
    whole = largest.read_bytes()
    if damage == "flip":
        # In the middle of the weights: ONNX Runtime would open this and compute something else.
        middle = len(whole) // 2
        largest.write_bytes(
            whole[:middle] + bytes(byte ^ 0x55 for byte in whole[middle : middle + 4096]) + whole[middle + 4096 :]
        )
    elif damage == "truncate":
        largest.write_bytes(whole[:-100])
    elif damage == "remove":
        largest.unlink()
    elif damage == "record":
        (entry / "entry.json").write_text("{")
    else:
        record = json.loads((entry / "entry.json").read_text())
        record["depends_on"]["onnxruntime"] = "1.0"
        (entry / "entry.json").write_text(json.dumps(record))
    np.testing.assert_array_equal(logits(bundle, "base", cache_dir), plain)
    assert entries(cache_dir) == [entry]
    assert largest.read_bytes() == whole


def test_an_entry_that_was_copied_is_compared_and_kept(tiny_word_pair: Pair, cache_dir: Path, tmp_path: Path) -> None:
    bundle = Bundle.open(tiny_word_pair.bundle)
    logits(bundle, "base", cache_dir)
    shutil.copytree(cache_dir, tmp_path / "copy", copy_function=shutil.copyfile)
    before = {path: path.stat().st_ino for path in (tmp_path / "copy").rglob("*")}
    logits(bundle, "base", tmp_path / "copy")
    assert {path: path.stat().st_ino for path in (tmp_path / "copy").rglob("*")} == before


@pytest.mark.parametrize("what", ["graph", "weights", "onnxruntime", "processor", "options"])
def test_another_graph_version_processor_or_option_is_another_entry(
    tiny_word_pair: Pair, cache_dir: Path, tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    bundle = Bundle.open(tiny_word_pair.bundle)
    open_model(bundle, "base", ["cpu"], cache_dir=cache_dir)
    providers: list[object] = ["cpu"]
    if what in ("graph", "weights"):
        shutil.copytree(tiny_word_pair.bundle, tmp_path / "other")
        manifest = json.loads((tmp_path / "other" / "nudge.json").read_text())
        model = manifest["models"]["base"]
        name = model["graph"] if what == "graph" else (model["external_data"] or [model["graph"]])[0]
        manifest["files"][name]["sha256"] = "0" * 64
        (tmp_path / "other" / "nudge.json").write_text(json.dumps(manifest))
        bundle = Bundle.open(tmp_path / "other")
    elif what == "onnxruntime":
        monkeypatch.setattr(onnxruntime, "__version__", "99.0")
    elif what == "processor":
        monkeypatch.setattr("nudge_onnx.runtime.sessions.session.processor", lambda: "another")
    else:
        providers = [("cpu", {"use_arena": "0"})]
    open_model(bundle, "base", providers, cache_dir=cache_dir)  # type: ignore[arg-type]
    assert len(entries(cache_dir)) == 2


def test_a_cache_that_cannot_be_written_or_opened_is_a_warning(tiny_word_pair: Pair, tmp_path: Path) -> None:
    bundle = Bundle.open(tiny_word_pair.bundle)
    plain = logits(bundle, "base", None)
    blocked = tmp_path / "file"
    blocked.touch()
    with pytest.warns(UserWarning, match="no graph of the base model is cached in .*file"):
        np.testing.assert_array_equal(logits(bundle, "base", blocked), plain)
    # Whole by its record, and yet nothing that ONNX Runtime opens: it was written to a full disk.
    cache_dir = tmp_path / "cache"
    logits(bundle, "base", cache_dir)
    (entry,) = entries(cache_dir)
    record = json.loads((entry / "entry.json").read_text())
    (entry / "model.onnx").write_bytes(b"\xff" * record["files"]["model.onnx"]["bytes"])
    record["files"]["model.onnx"]["modified_ns"] = (entry / "model.onnx").stat().st_mtime_ns
    (entry / "entry.json").write_text(json.dumps(record))
    with pytest.warns(UserWarning, match="cannot open"):
        np.testing.assert_array_equal(logits(bundle, "base", cache_dir), plain)
    assert entries(cache_dir) == []


def test_several_that_make_one_entry_at_once_all_get_it(tiny_word_pair: Pair, cache_dir: Path) -> None:
    bundle = Bundle.open(tiny_word_pair.bundle)
    plain = logits(bundle, "base", None)
    with ThreadPoolExecutor(4) as pool, warnings.catch_warnings():
        warnings.simplefilter("error")
        for found in pool.map(lambda _: logits(bundle, "base", cache_dir), range(4)):
            np.testing.assert_array_equal(found, plain)
    # Nothing half-made is left, hidden or not.
    rows = sorted(cache_dir.glob("rows-*.json"))
    assert sorted(cache_dir.iterdir()) == sorted([*entries(cache_dir), *rows])
    assert len(entries(cache_dir)) == 1


def test_the_command_line_takes_a_cache_folder(tiny_word_pair: Pair, cache_dir: Path) -> None:
    arguments = ["run", str(tiny_word_pair.bundle), "the cat", "--max-new-tokens", "8"]
    plain = CliRunner().invoke(main, arguments)
    cached = CliRunner().invoke(main, [*arguments, "--cache-dir", str(cache_dir)])
    assert cached.stdout == plain.stdout
    assert len(entries(cache_dir)) == 2
