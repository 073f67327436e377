"""Split files: `name-00001-of-00003.gguf` and its siblings."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFWriter
from tiny_gguf import add_value, write_llama

from nudge_onnx.errors import SourceError
from nudge_onnx.export.gguf import to_checkpoint
from nudge_onnx.export.gguf.parts import parts_of, wholes_in
from nudge_onnx.export.gguf.reader import read_head

Q8_0, F32 = GGMLQuantizationType.Q8_0, GGMLQuantizationType.F32


def refusal(path: Path) -> str:
    with pytest.raises(SourceError) as caught:
        to_checkpoint(path, path.parent / "checkpoint")
    message = str(caught.value)
    assert "\n" not in message
    return message


def split(folder: Path, name: str = "tiny") -> list[Path]:
    """A whole file as `tiny.gguf`, and its tensors in three parts beside it."""
    write_llama(folder / "whole.gguf", kind=Q8_0)
    head = read_head(folder / "whole.gguf")
    parts = [folder / f"{name}-{n:05}-of-00003.gguf" for n in (1, 2, 3)]
    for number, part in enumerate(parts):
        writer = GGUFWriter(part, "llama")
        values = {"split.no": number, "split.count": 3, "split.tensors.count": len(head.tensors)}
        for key, value in (values | (head.values if number == 0 else {"general.architecture": "llama"})).items():
            add_value(writer, key, value)
        for tensor_name, tensor in list(head.tensors.items())[number::3]:
            stored = np.fromfile(tensor.path, dtype=np.uint8, count=tensor.size, offset=tensor.offset)
            plain = tensor.kind == F32
            writer.add_tensor(
                tensor_name,
                stored.view(np.float32) if plain else stored.reshape(tensor.shape[0], -1),
                raw_dtype=None if plain else tensor.kind,
            )
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return parts


@pytest.mark.parametrize("given", [0, 1, 2])
def test_any_part_of_a_split_file_stands_for_the_whole(tmp_path: Path, given: int) -> None:
    parts = split(tmp_path)
    to_checkpoint(parts[given], tmp_path / "split")
    to_checkpoint(tmp_path / "whole.gguf", tmp_path / "checkpoint")
    files = [(tmp_path / folder / "model.safetensors").read_bytes() for folder in ("split", "checkpoint")]
    assert files[0] == files[1]
    provenance = json.loads((tmp_path / "split" / "provenance.json").read_text())
    assert provenance["file"] == "tiny-00001-of-00003.gguf"
    assert provenance["sha256"] == sha256(b"".join(part.read_bytes() for part in parts)).hexdigest()


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    parts = split(tmp_path)
    parts[2].unlink()
    assert "is one of 3 parts, and tiny-00003-of-00003.gguf is not beside it" in refusal(parts[0])


def test_a_part_under_another_name_is_noticed(tmp_path: Path) -> None:
    parts = split(tmp_path)
    parts[1].rename(tmp_path / "other.gguf")
    assert "says that it is part 2 of 3, and its name says 1 of 1" in refusal(tmp_path / "other.gguf")
    (tmp_path / "other.gguf").rename(parts[1])
    parts[1].write_bytes(parts[2].read_bytes())
    assert "says that it is part 3 of 3, and its name says 2 of 3" in refusal(parts[0])


def test_a_truncated_part_is_named(tmp_path: Path) -> None:
    parts = split(tmp_path)
    parts[1].write_bytes(parts[1].read_bytes()[:-100])
    assert "corrupt or truncated" in refusal(parts[0])


def test_files_that_only_look_like_parts_stand_alone(tmp_path: Path) -> None:
    for name in ("model.gguf", "model-00003-of-00002.gguf", "model-00000-of-00000.gguf", "model-1-of-2.gguf"):
        assert parts_of(tmp_path / name) == [tmp_path / name]


def test_a_split_file_is_one_in_its_folder(tmp_path: Path) -> None:
    for name in ("b-00002-of-00002.gguf", "b-00001-of-00002.gguf", "a.gguf", "c.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in wholes_in(tmp_path)] == ["a.gguf", "b-00001-of-00002.gguf"]
