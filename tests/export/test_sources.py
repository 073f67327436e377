"""Sources: what is found where, what is recorded of it, and which line says what is wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from fake_hub import COMMIT, Fault, fake_hub
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer
from tiny import CORPUS
from tokenizers import Tokenizer
from tokenizers.models import BPE

from nudge_onnx.errors import SourceError
from nudge_onnx.export.source import hub as hub_module
from nudge_onnx.export.source.sources import fetch
from nudge_onnx.export.source.tokenizer_file import load_tokenizer, save_tokenizer


@pytest.fixture
def folder(tiny_pair: tuple[Path, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_pair[0], tmp_path / "model"))


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Fault]]:
    """What goes wrong at the hub, to be filled by a test; nobody waits long for it."""
    monkeypatch.setattr(hub_module, "_PAUSE", 0.01)
    monkeypatch.setattr(hub_module, "_SILENCE", 0.5)
    return {}


@pytest.fixture
def hub(
    folder: Path, faults: dict[str, list[Fault]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Any]]:
    """`huggingface_hub` itself, talking to a server on localhost that holds `org/model`."""
    (folder / "README.md").write_text("---\nlanguage: en\nlicense: other\nlicense_name: tiny-terms\n---\n# Tiny\n")
    (folder / "original").mkdir()
    real = huggingface_hub.snapshot_download
    with fake_hub({"org/model": folder}, faults) as address:
        shutil.rmtree(folder / "original")

        def download(*arguments: Any, **named: Any) -> str:
            return real(*arguments, endpoint=address, cache_dir=tmp_path / "cache", **named)

        monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
        yield download


@pytest.mark.usefixtures("hub")
def test_a_hub_id_is_downloaded_with_its_commit_and_licence(tmp_path: Path) -> None:
    checkpoint = fetch("org/model", tmp_path / "scratch")
    assert checkpoint.source.kind == "hub"
    assert checkpoint.source.name == "org/model"
    assert checkpoint.source.revision == COMMIT
    assert checkpoint.source.licence == "tiny-terms"
    assert (checkpoint.folder / "model.safetensors").is_file()
    assert fetch("org/model", tmp_path / "scratch", revision="v1").source.revision == COMMIT


@pytest.mark.parametrize(
    ("source", "revision", "line"),
    [
        ("org/absent", None, "neither a file or folder here nor a public hub id"),
        ("org/gated", None, "org/gated is gated: accept its terms"),
        ("org/model", "v9", "org/model has no revision 'v9'"),
        ("no such id!", None, "nor a hub id of the form owner/name"),
    ],
)
@pytest.mark.usefixtures("hub")
def test_what_the_hub_refuses_is_one_line(source: str, revision: str, line: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=line) as caught:
        fetch(source, tmp_path, revision=revision)
    assert "\n" not in str(caught.value)


WEIGHTS = "model.safetensors"


@pytest.mark.parametrize(
    ("where", "what", "said"),
    [
        (WEIGHTS, "cut", "the hub cut the connection"),
        ("revision/main", 500, "the hub answers 500"),
        ("revision/main", 429, "the hub answers 429, too many requests"),
        ("revision/main", "silent", "the hub does not answer"),
    ],
)
@pytest.mark.usefixtures("hub")
def test_what_may_be_over_soon_is_tried_again(
    faults: dict[str, list[Fault]], where: str, what: Fault, said: str, tmp_path: Path, folder: Path
) -> None:
    notes: list[str] = []
    faults[where] = [what] * 2
    checkpoint = fetch("org/model", tmp_path / "scratch", note=notes.append)
    assert (checkpoint.folder / WEIGHTS).read_bytes() == (folder / WEIGHTS).read_bytes()
    assert notes
    assert notes[0] == f"org/model: {said}; trying again in 0 s (1 of 3)"


@pytest.mark.parametrize(
    ("where", "what", "line"),
    [
        (WEIGHTS, "cut", "org/model could not be downloaded: the hub cut the connection (4 tries); try again later"),
        ("revision/main", 500, "org/model could not be downloaded: the hub answers 500 (4 tries); try again later"),
        ("revision/main", "silent", "org/model could not be downloaded: the hub does not answer (4 tries); try again"),
        ("revision/main", 401, "org/model: the hub does not know your token; log in again with `hf auth login`"),
        ("revision/main", 418, "org/model could not be downloaded: the hub answers 418"),
    ],
)
@pytest.mark.usefixtures("hub")
def test_a_hub_that_stays_out_of_order_is_one_line(
    faults: dict[str, list[Fault]], where: str, what: Fault, line: str, tmp_path: Path
) -> None:
    faults[where] = [what] * 100
    with pytest.raises(SourceError) as caught:
        fetch("org/model", tmp_path / "scratch")
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


def test_a_revision_of_a_folder_is_said_not_to_apply(folder: Path, tmp_path: Path) -> None:
    notes: list[str] = []
    assert fetch(str(folder), tmp_path, revision="v1", note=notes.append).folder == folder
    assert notes == [f"{folder} is a file or folder here, to which --revision does not apply"]


@pytest.mark.usefixtures("faults")
def test_no_network_and_nothing_cached_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = huggingface_hub.snapshot_download

    def unreachable(*arguments: Any, **named: Any) -> str:
        return real(*arguments, endpoint="http://127.0.0.1:9", cache_dir=tmp_path / "cache", **named)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    with pytest.raises(SourceError, match=r"the hub cannot be reached \(4 tries\)"):
        fetch("org/model", tmp_path)


def test_a_folder_is_taken_where_it_lies(folder: Path, tmp_path: Path) -> None:
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    checkpoint = fetch(str(folder), tmp_path / "scratch")
    assert checkpoint.folder == folder
    assert (checkpoint.source.kind, checkpoint.source.name) == ("folder", "model")
    assert checkpoint.source.licence == "apache-2.0"
    assert not (tmp_path / "scratch").exists()


def test_provenance_beside_the_weights_is_recorded(folder: Path, tmp_path: Path) -> None:
    known = {"name": "Run 7", "file": "tiny-1.gguf", "licence": "mit", "sha256": "ab" * 32}
    (folder / "provenance.json").write_text(json.dumps(known))
    source = fetch(str(folder), tmp_path).source
    assert (source.name, source.licence, source.sha256, source.kind) == ("tiny-1", "mit", "ab" * 32, "gguf")


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def become_adapter(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "org/base"}))


def become_ranks(folder: Path, name: str) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / name).write_text("IQ== 0\nIg== 1\n")


DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "adapter": (become_adapter, r"is an adapter of org/base and no model; merge them with peft \("),
    "tiktoken": (lambda folder: become_ranks(folder, "qwen.tiktoken"), r"as a tiktoken file only \(qwen.tiktoken\)"),
    "tiktoken's model": (
        lambda folder: become_ranks(folder, "tokenizer.model"),
        r"as a tiktoken file only \(tokenizer.model\)",
    ),
    "variant": (
        lambda folder: (folder / "model.safetensors").rename(folder / "model.fp16.safetensors"),
        r"as a variant only; rename model.fp16.safetensors to model.safetensors",
    ),
    "no config": (lambda folder: (folder / "config.json").unlink(), r"is no checkpoint: it has no config.json"),
    "bad config": (lambda folder: (folder / "config.json").write_text("{"), r"config.json cannot be read"),
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), r"has no tokenizer; put its tokenizer.json"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), r"has no weights"),
    "truncated weights": (
        lambda folder: truncate(folder / "model.safetensors"),
        r"model.safetensors is corrupt or truncated",
    ),
    "missing shard": (
        lambda folder: (folder / "model.safetensors.index.json").write_text(
            json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model.safetensors"}})
        ),
        r"lacks model-00001-of-00002.safetensors, 1 of 2 weight files are missing",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_folder_is_one_line(damage: str, folder: Path, tmp_path: Path) -> None:
    change, line = DAMAGES[damage]
    change(folder)
    with pytest.raises(SourceError, match=line) as caught:
        fetch(str(folder), tmp_path)
    assert "\n" not in str(caught.value)


def test_an_adapter_without_a_configuration_is_named_as_well(folder: Path, tmp_path: Path) -> None:
    become_adapter(folder)
    (folder / "config.json").unlink()
    with pytest.raises(SourceError, match=r"is an adapter of org/base"):
        fetch(str(folder), tmp_path)


def test_a_tokenizer_of_sentencepiece_alone_is_converted(folder: Path, tmp_path: Path) -> None:
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with (folder / "tokenizer.model").open("wb") as stream:
        SentencePieceTrainer.train(
            sentence_iterator=iter(CORPUS),
            model_writer=stream,
            model_type="bpe",
            vocab_size=400,
            byte_fallback=True,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            hard_vocab_limit=False,
            minloglevel=2,
        )
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "LlamaTokenizer"}))
    tokenizer = load_tokenizer(fetch(str(folder), tmp_path).folder)
    known = SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    for text in CORPUS[:4]:
        assert tokenizer.encode(text, add_special_tokens=False) == known.encode(text)


def test_a_corrupt_tokenizer_is_one_line(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(SourceError, match="its tokenizer cannot be loaded") as caught:
        load_tokenizer(folder)
    assert "\n" not in str(caught.value)


def test_a_tokenizer_whose_tokens_are_no_bytes_is_refused(folder: Path) -> None:
    content = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(
        json.dumps(content | {"decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True}})
    )
    with pytest.raises(SourceError, match=r"is BPE with decoder WordPiece; only byte-level and SentencePiece"):
        load_tokenizer(folder)


def test_a_corrupt_gguf_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF" + b"\0" * 20)
    with pytest.raises(SourceError) as caught:
        fetch(str(path), tmp_path / "scratch")
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "scratch").iterdir())


@pytest.mark.parametrize("source", ["./absent", "/absent/model", "absent.gguf", "some/folder/below"])
def test_a_path_that_does_not_exist_is_not_looked_up_on_the_hub(source: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"does not exist; give a .gguf file"):
        fetch(source, tmp_path)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"")
    with pytest.raises(SourceError, match=r"is a file and no .gguf"):
        fetch(str(tmp_path / "model.onnx"), tmp_path)


def test_the_saved_tokenizer_neither_truncates_nor_pads(folder: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(folder)
    tokenizer("text", truncation=True, max_length=2, padding="max_length")
    save_tokenizer(tokenizer, tmp_path / "tokenizer.json")
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    assert content["truncation"] is None
    assert content["padding"] is None


def test_the_saved_tokenizer_is_short_and_the_same(folder: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(folder)
    save_tokenizer(tokenizer, tmp_path / "tokenizer.json")
    text = (tmp_path / "tokenizer.json").read_text(encoding="utf-8")
    assert "\n" not in text
    merges = json.loads(text)["model"]["merges"]
    assert merges
    assert all(isinstance(merge, str) and len(merge.split(" ")) == 2 for merge in merges)
    saved = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert json.loads(saved.to_str()) == json.loads(tokenizer.backend_tokenizer.to_str())


@pytest.mark.parametrize("odd", ["a b", "#version"])
def test_merges_that_a_text_could_not_tell_apart_stay_pairs(odd: str, tmp_path: Path) -> None:
    parts = {part: number for number, part in enumerate([odd, "c", odd + "c"])}
    backend = Tokenizer(BPE(parts, [(odd, "c")]))
    save_tokenizer(SimpleNamespace(backend_tokenizer=backend), tmp_path / "tokenizer.json")
    saved = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert json.loads(saved.to_str())["model"]["merges"] == [[odd, "c"]]
