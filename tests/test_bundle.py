"""What a reader refuses, and by which name. The weights here are no weights: `Bundle.open` reads none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from nudge_onnx.bundle import (
    Bundle,
    Cache,
    FileRecord,
    Manifest,
    ModelRecord,
    Parity,
    Prompt,
    Source,
    sha256_of,
)
from nudge_onnx.cli import main
from nudge_onnx.errors import BundleError


def model(role: str) -> ModelRecord:
    return ModelRecord(
        graph=f"{role}/model.onnx",
        tokenizer=f"{role}/tokenizer.json",
        architecture="llama",
        precision="int8",
        context_length=2048,
        vocabulary_size=300,
        end_token_ids=(1, 2),
        cache=Cache(layers=2, kv_heads=1, head_size=8),
        prompt=Prompt("{{ messages[0].content }}", {"bos_token": "<s>"}, add_bos=True),
        source=Source(f"org/{role}", "hub", "abc123", None, "apache-2.0"),
        parameters=135_000_000,
        parity=Parity(64, 0.1, 0.01, 0.98, 0.003, 1.0),
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    files = {}
    for role in ("base", "nudge"):
        (tmp_path / role).mkdir()
        for name in ("model.onnx", "tokenizer.json"):
            path = tmp_path / role / name
            path.write_bytes(f"{role} {name}".encode())
            files[f"{role}/{name}"] = FileRecord(path.stat().st_size, sha256_of(path))
    manifest = Manifest("pair", "2026-11-23T00:00:00Z", {role: model(role) for role in ("base", "nudge")}, files=files)
    (tmp_path / "nudge.json").write_text(manifest.to_json(), encoding="utf-8")
    return tmp_path


def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "nudge.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    change(data)
    path.write_text(json.dumps(data), encoding="utf-8")


def test_a_manifest_survives_being_written_and_read(folder: Path) -> None:
    manifest = Bundle.open(folder).manifest
    assert Manifest.from_json(manifest.to_json()) == manifest
    assert manifest.models["base"] == model("base")


def test_a_minor_version_may_add_fields(folder: Path) -> None:
    def newer(data: dict[str, Any]) -> None:
        data["version"] = "1.7"
        data["mood"] = "good"
        data["models"]["base"]["cache"]["colour"] = "blue"

    edit(folder, newer)
    assert Bundle.open(folder).manifest.models["base"].cache.layers == 2


def remove(*keys: str) -> Callable[[dict[str, Any]], None]:
    def change(data: dict[str, Any]) -> None:
        for key in keys[:-1]:
            data = data[key]
        del data[keys[-1]]

    return change


def put(value: Any, *keys: str) -> Callable[[dict[str, Any]], None]:
    def change(data: dict[str, Any]) -> None:
        for key in keys[:-1]:
            data = data[key]
        data[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("other", "format"), "not a nudge-onnx-bundle manifest"),
        (put("2.0", "version"), "format 2.0 is not supported"),
        (remove("models", "nudge"), "no 'nudge' model"),
        (remove("models", "base", "cache", "layers"), "layers"),
        (remove("models", "base", "graph"), "graph"),
        (remove("files"), "files"),
        (put(5, "models"), "ill-formed"),
        (put({}, "files"), "does not list|not list it"),
        (put("../secret", "models", "base", "graph"), "not list it|leaves the bundle"),
    ],
)
def test_a_broken_manifest_is_refused_by_name(
    folder: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    edit(folder, change)
    with pytest.raises(BundleError, match=message):
        Bundle.open(folder)


@pytest.mark.parametrize("path", ["../outside", "/etc/passwd", "base/../../outside", "C:/x", "base\\..\\x"])
def test_a_path_that_leaves_the_folder_is_refused(folder: Path, path: str) -> None:
    edit(folder, put({"bytes": 1, "sha256": "0"}, "files", path))
    with pytest.raises(BundleError, match="leaves the bundle"):
        Bundle.open(folder)


def test_a_path_that_leaves_is_refused_of_whoever_asks(folder: Path) -> None:
    with pytest.raises(BundleError, match="leaves the bundle"):
        Bundle.open(folder).path("../nudge.json")


def test_a_manifest_that_is_too_large_is_not_read(folder: Path) -> None:
    with (folder / "nudge.json").open("r+b") as stream:
        stream.truncate((16 << 20) + 1)
    with pytest.raises(BundleError, match="larger than 16 MiB"):
        Bundle.open(folder)


def test_a_symbolic_link_out_of_the_folder_is_refused(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside") / "model.onnx"
    graph = folder / "base" / "model.onnx"
    outside.write_bytes(graph.read_bytes())
    graph.unlink()
    graph.symlink_to(outside)
    with pytest.raises(BundleError, match="symbolic link that leaves"):
        Bundle.open(folder)


def test_missing_truncated_and_changed_files_are_told_apart(folder: Path) -> None:
    graph = folder / "base" / "model.onnx"
    whole = graph.read_bytes()
    graph.write_bytes(whole[:-1])
    with pytest.raises(BundleError, match=r"base/model.onnx has \d+ bytes instead of \d+"):
        Bundle.open(folder)
    graph.write_bytes(whole[:-1] + b"?")
    bundle = Bundle.open(folder)
    with pytest.raises(BundleError, match=r"base/model\.onnx does not match its SHA-256"):
        bundle.verify()
    graph.unlink()
    with pytest.raises(BundleError, match=r"base/model\.onnx is missing"):
        Bundle.open(folder)


def test_not_a_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is not a folder"):
        Bundle.open(tmp_path / "nowhere")
    with pytest.raises(BundleError, match=r"holds no nudge\.json"):
        Bundle.open(tmp_path)
    (tmp_path / "nudge.json").write_text("{", encoding="utf-8")
    with pytest.raises(BundleError, match="not valid JSON"):
        Bundle.open(tmp_path)


def test_inspect_shows_what_a_bundle_holds_and_checks_it(folder: Path) -> None:
    runner = CliRunner()
    shown = runner.invoke(main, ["inspect", str(folder), "--check"])
    assert shown.exit_code == 0
    for part in ("org/base (hub, abc123)", "apache-2.0", "int8", "top-1 agreement 98.0%", "all 4 files match"):
        assert part in shown.output
    assert json.loads(runner.invoke(main, ["inspect", str(folder), "--json"]).stdout)["name"] == "pair"
    (folder / "base" / "model.onnx").write_bytes(b"BASE model.onnx")
    refused = runner.invoke(main, ["inspect", str(folder), "--check"])
    assert (refused.exit_code, refused.stderr.splitlines()[-1].startswith("Error: base/model.onnx does not")) == (
        1,
        True,
    )


def test_a_folder_that_is_no_bundle_gets_one_line_and_no_traceback(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["run", str(tmp_path), "hello"])
    assert result.exit_code == 1
    assert result.stderr == f"Error: {tmp_path} holds no nudge.json; give the folder that nudge-export wrote\n"
