"""GGUF files as the source of an export: what a user may name, and what its manifest then says."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from tiny_gguf import byte_level_values, write_llama

from nudge_onnx.errors import SourceError
from nudge_onnx.export.gguf import READING, to_checkpoint
from nudge_onnx.export.pipeline import Request, export
from nudge_onnx.export.source.prompts import looks_aligned
from nudge_onnx.export.source.sources import fetch
from nudge_onnx.export.source.tokenizer_file import load_tokenizer
from nudge_onnx.export.support.progress import Progress


def test_a_folder_that_holds_one_gguf_file_is_that_file(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    write_llama(tmp_path / "model" / "tiny-Q8.gguf")
    source = fetch(str(tmp_path / "model"), tmp_path / "scratch").source
    assert (source.name, source.kind) == ("tiny-Q8", "gguf")


def test_a_folder_that_holds_several_gguf_files_is_one_line(tmp_path: Path) -> None:
    for name in ("a.gguf", "b.gguf", "c.GGUF"):
        (tmp_path / name).touch()
    with pytest.raises(SourceError, match=r"holds 3 .gguf files \(a.gguf, b.gguf, ...\); name one of them$"):
        fetch(str(tmp_path), tmp_path / "scratch")


def test_a_config_without_weights_beside_a_gguf_file_is_left_aside(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"model_type": "llama"}')
    write_llama(tmp_path / "model" / "tiny.gguf")
    assert fetch(str(tmp_path / "model"), tmp_path / "scratch").source.kind == "gguf"


def test_a_checkpoint_beside_a_gguf_file_is_the_source(tmp_path: Path) -> None:
    write_llama(tmp_path / "tiny.gguf")
    to_checkpoint(tmp_path / "tiny.gguf", tmp_path / "model")
    (tmp_path / "model" / "provenance.json").unlink()
    (tmp_path / "model" / "other.gguf").touch()
    assert fetch(str(tmp_path / "model"), tmp_path / "scratch").source.kind == "folder"


def test_what_an_older_reader_left_is_not_taken_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_llama(tmp_path / "tiny.gguf")
    first, again = (fetch(str(tmp_path / "tiny.gguf"), tmp_path / "scratch").folder for _ in range(2))
    monkeypatch.setattr("nudge_onnx.export.gguf.READING", READING + 1)
    assert first == again != fetch(str(tmp_path / "tiny.gguf"), tmp_path / "scratch").folder


@pytest.mark.parametrize(
    ("changes", "aligned"),
    [
        ({}, False),
        ({"general__name": "Tiny 2B It"}, True),
        ({"general__finetune": "Instruct"}, True),
        ({"general__tags": ["text-generation", "chat"]}, True),
        ({"chat_template": "{{ messages[0]['content'] }}<|im_end|>"}, True),
        ({"chat_template": None, "general__name": "Tiny Instruct"}, False),
    ],
)
def test_an_instruct_model_is_known_by_what_its_file_says(
    tmp_path: Path, changes: dict[str, object], aligned: bool
) -> None:
    write_llama(tmp_path / "model.gguf", byte_level_values(**changes))
    checkpoint = fetch(str(tmp_path / "model.gguf"), tmp_path / "scratch")
    assert looks_aligned(load_tokenizer(checkpoint.folder), " ".join(checkpoint.aliases)) is aligned


def test_an_export_warns_of_a_base_model_that_its_file_calls_instruct(tmp_path: Path) -> None:
    write_llama(tmp_path / "model.gguf", byte_level_values(general__finetune="Instruct"))
    sources = {"base": str(tmp_path / "model.gguf"), "nudge": str(tmp_path / "none.gguf")}
    written = StringIO()
    with pytest.raises(SourceError, match=r"none\.gguf does not exist"):
        export(Request(sources, tmp_path / "bundle"), Progress(written))
    assert f"warning: {sources['base']} looks like an instruct model" in written.getvalue()
