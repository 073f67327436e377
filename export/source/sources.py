"""Where a checkpoint comes from: a hub id, a folder or a GGUF file, all brought to one folder on this disk."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nudge_onnx.bundle import Source
from nudge_onnx.errors import SourceError

from ..support.quiet import quiet
from ..support.scratch import fingerprint, once
from ..weights import check_readable
from .hub import download

__all__ = ["Checkpoint", "fetch"]

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model")
_WEIGHTS = ("*.safetensors*", "*.bin")
_FRONT_MATTER = re.compile(r"\A---\s*\n(.*?)\n---", re.DOTALL)


@dataclass(frozen=True)
class Checkpoint:
    """A folder with configuration, weights and tokenizer, and where it came from."""

    folder: Path
    source: Source
    aliases: tuple[str, ...] = ()
    """What a GGUF file calls its model: name, fine-tuning, tags."""


def fetch(
    src: str,
    scratch: Path,
    *,
    revision: str | None = None,
    trust_remote_code: bool = False,
    note: Callable[[str], None] | None = None,
) -> Checkpoint:
    """The checkpoint that `src` names.

    Of a GGUF file all but the weights is written below `scratch`, once. `note` is told what a user should hear on the
    way. Raises `SourceError`, one line, for anything that cannot be found, read, or used.
    """
    path = Path(src).expanduser()
    if revision is not None and path.exists() and note is not None:
        note(f"{src} is a file or folder here, to which --revision does not apply")
    if path.is_dir():
        gguf = _only_gguf(path)
        return _folder(path) if gguf is None else _gguf(gguf, scratch)
    if path.is_file():
        if path.suffix.lower() != ".gguf":
            raise SourceError(f"{src} is a file and no .gguf; give a .gguf file, a checkpoint folder or a hub id")
        return _gguf(path, scratch)
    if path.is_absolute() or src.startswith((".", "~")) or src.count("/") > 1 or path.suffix.lower() == ".gguf":
        raise SourceError(f"{src} does not exist; give a .gguf file, a checkpoint folder or a hub id")
    folder, commit = download(src, revision, trust_remote_code=trust_remote_code, note=note)
    check_folder(folder, src)
    return Checkpoint(folder, Source(name=src, kind="hub", revision=commit, licence=_licence(folder)))


def _folder(folder: Path) -> Checkpoint:
    check_folder(folder, str(folder))
    known = _provenance(folder)
    # A GGUF file that was unpacked earlier is known by the file it came from.
    source = Source(
        name=Path(known["file"]).stem if known.get("file") else folder.resolve().name,
        kind="gguf" if known.get("sha256") else "folder",
        sha256=known.get("sha256"),
        licence=known.get("licence") or _licence(folder),
    )
    return Checkpoint(folder, source, _aliases(known))


def _only_gguf(folder: Path) -> Path | None:
    """The GGUF file of a folder that holds one and no checkpoint; `SourceError` for several.

    A `config.json` without weights is no checkpoint: many publishers put one beside their GGUF files.
    """
    if not any(folder.glob("*.[gG][gG][uU][fF]")) or (
        (folder / "config.json").exists() and any(any(folder.glob(pattern)) for pattern in _WEIGHTS)
    ):
        return None
    from ..gguf import wholes_in

    files = wholes_in(folder)
    if len(files) > 1:
        raise SourceError(
            f"{folder} holds {len(files)} .gguf files ({files[0].name}, {files[1].name}"
            f"{', ...' if len(files) > 2 else ''}); name one of them"
        )
    return files[0]


def _gguf(path: Path, scratch: Path) -> Checkpoint:
    from ..gguf import READING, parts_of, to_checkpoint, whole_name

    with quiet():
        place = scratch / f"checkpoint-{READING}-{fingerprint(parts_of(path))}"
        folder = once(place, lambda partial: to_checkpoint(path, partial, weights=False))
    known = _provenance(folder)
    # The name inside is often that of a training run; users know their files.
    source = Source(name=whole_name(path), kind="gguf", sha256=known.get("sha256"), licence=known.get("licence"))
    return Checkpoint(folder, source, _aliases(known))


def _aliases(known: Mapping[str, Any]) -> tuple[str, ...]:
    named = [known.get("name"), known.get("finetune"), *(known.get("tags") or [])]
    return tuple(str(name) for name in named if name)


def check_folder(folder: Path, name: str) -> None:
    """Raise `SourceError` unless `folder` holds a configuration, a tokenizer, and weights that can be opened."""
    _check_no_adapter(folder, name)
    try:
        json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SourceError(f"{name} is no checkpoint: it has no config.json") from None
    except (ValueError, OSError) as error:
        raise SourceError(f"{name}: config.json cannot be read ({error})") from None
    _check_tokenizer(folder, name)
    for weights in _weight_files(folder, name):
        check_readable(weights)


def _weight_files(folder: Path, name: str) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            shards = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (ValueError, KeyError, AttributeError) as error:
            raise SourceError(f"{index} cannot be read ({error})") from None
        if missing := [shard for shard in shards if not (folder / shard).is_file()]:
            raise SourceError(f"{name} lacks {missing[0]}, {len(missing)} of {len(shards)} weight files are missing")
        return [folder / shard for shard in shards]
    files = [folder / file for file in ("model.safetensors", "pytorch_model.bin") if (folder / file).is_file()]
    files += folder.glob("pytorch_model-*.bin")
    if not files:
        variants = sorted(folder.glob("model.*.safetensors"))
        if variants:
            raise SourceError(
                f"{name} has its weights as a variant only; rename {variants[0].name} to model.safetensors"
            )
        raise SourceError(f"{name} has no weights (model.safetensors)")
    return files


def _check_no_adapter(folder: Path, name: str) -> None:
    adapter = folder / "adapter_config.json"
    if not adapter.is_file() or any(folder.glob("model*.safetensors")) or any(folder.glob("pytorch_model*.bin")):
        return
    try:
        base = json.loads(adapter.read_text(encoding="utf-8")).get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError):
        base = None
    raise SourceError(
        f"{name} is an adapter of {base or 'a model that it does not name'} and no model; merge them with peft "
        "(PeftModel.from_pretrained(base, adapter).merge_and_unload().save_pretrained(folder)) and give that folder"
    )


def _check_tokenizer(folder: Path, name: str) -> None:
    there = [folder / file for file in _TOKENIZER_FILES if (folder / file).is_file()]
    ranks = [
        *sorted(folder.glob("*.tiktoken")),
        *(file for file in there if file.suffix == ".model" and _is_ranks(file)),
    ]
    if ranks and set(there) <= set(ranks):
        raise SourceError(
            f"{name} has its tokenizer as a tiktoken file only ({ranks[0].name}); "
            "give the checkpoint in the layout of transformers, with a tokenizer.json"
        )
    if not there:
        raise SourceError(f"{name} has no tokenizer; put its tokenizer.json beside config.json")


def _is_ranks(file: Path) -> bool:
    """Whether a `.model` file is tiktoken's, lines of base64 and a number, and not SentencePiece's."""
    with file.open("rb") as stream:
        return re.fullmatch(rb"[A-Za-z0-9+/]+=* \d+\r?\n", stream.readline(1024)) is not None


def _provenance(folder: Path) -> dict[str, Any]:
    try:
        known = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _licence(folder: Path) -> str | None:
    """The licence that the model card's front matter names."""
    try:
        card = (folder / "README.md").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    front = _FRONT_MATTER.match(card)
    if front is None:
        return None
    named = dict(re.findall(r"^(license|license_name):\s*[\"']?([^\"'\n]+?)[\"']?\s*$", front.group(1), re.MULTILINE))
    # "other" says that the card names it one line further down.
    licence = named.get("license")
    return named.get("license_name", licence) if licence == "other" else licence
