"""Which passes give a row the same bits is found out where the model runs, and decides what is read ahead."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pairs import Pair, exported

from nudge_onnx import Bundle, NudgedLM
from nudge_onnx.errors import ProviderError
from nudge_onnx.runtime.inference import decoder, opening, row_bits
from nudge_onnx.runtime.inference.opening import open_model
from nudge_onnx.runtime.inference.outputs import Rows, Summary
from nudge_onnx.runtime.inference.row_memory import RowMemory
from nudge_onnx.runtime.sessions.model_session import ModelSession, RowBits

PROMPT = "the cat sat on a mat and the dog ran to town"

Differs = Callable[[int], int]
"""What a kernel adds to the logits of a pass of so many rows."""
KERNELS: dict[RowBits, Differs] = {
    "all": lambda _rows: 0,
    "pairs": lambda rows: int(rows == 1),
    "none": lambda rows: rows,
}


@pytest.fixture(scope="module")
def codes(tiny_word_pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pair with a cache of eight bits: one of floats is never believed to take rows by themselves."""
    folder = tmp_path_factory.mktemp("codes") / "bundle"
    return exported(tiny_word_pair.base, tiny_word_pair.nudge, folder, "--precision", "int8")


def graph_of(bundle: Path) -> ModelSession:
    return open_model(Bundle.open(bundle), "base", ["cpu"])


def scripted(differs: Differs) -> Callable[..., Rows]:
    """A decoder's pass whose logits tell of a row's id and position, and of the size of the pass."""

    def run(self: decoder.Decoder, ids: list[int], first: int, last: int) -> Rows:
        past = self.length
        self.cache.reserve(len(ids))
        self.cache.advance(None, len(ids))
        rows = [[token, past + at, differs(len(ids))] for at, token in enumerate(ids)]
        return np.array(rows[first:last], np.float32)

    return run


@pytest.mark.parametrize("kind", KERNELS)
def test_what_kernels_do_is_found(codes: Path, monkeypatch: pytest.MonkeyPatch, kind: RowBits) -> None:
    monkeypatch.setattr(decoder.Decoder, "run_pass", scripted(KERNELS[kind]))
    assert row_bits.find_row_bits(graph_of(codes)) == kind


@pytest.mark.parametrize("kind", KERNELS)
def test_passes_of_eight_are_asked_of_a_large_model_on_another_device_than_a_cpu(
    codes: Path, monkeypatch: pytest.MonkeyPatch, kind: RowBits
) -> None:
    small = dataclasses.replace(open_model(Bundle.open(codes), "nudge", ["cpu"]), provider="openvino")
    graph = dataclasses.replace(small, record=dataclasses.replace(small.record, parameters=8_000_000_000))
    monkeypatch.setattr(decoder.Decoder, "run_pass", scripted(KERNELS[kind]))
    assert row_bits.find_row_bits(graph) == ("eights" if kind == "none" else kind)
    assert row_bits.find_row_bits(small) == kind
    passes = count()
    monkeypatch.setattr(decoder.Decoder, "run_pass", scripted(lambda _rows: next(passes)))
    assert row_bits.find_row_bits(graph) == "none"


@pytest.mark.parametrize("lonely", [1, 2, 3, 5])
def test_one_size_of_pass_with_other_bits_is_enough(codes: Path, monkeypatch: pytest.MonkeyPatch, lonely: int) -> None:
    monkeypatch.setattr(decoder.Decoder, "run_pass", scripted(lambda rows: int(rows == lonely)))
    assert row_bits.find_row_bits(graph_of(codes)) == ("pairs" if lonely == 1 else "none")


@pytest.mark.parametrize("edge", [128, 192])
def test_a_row_behind_a_block_of_attention_is_asked_too(
    codes: Path, monkeypatch: pytest.MonkeyPatch, edge: int
) -> None:
    plain = scripted(lambda _rows: 0)

    def run(self: decoder.Decoder, ids: list[int], first: int, last: int) -> Rows:
        past = self.length
        rows = np.asarray(plain(self, ids, first, last))
        # The kernel cuts the pass that crosses the edge, and one that ends there not.
        return rows + float(past < edge < past + len(ids) and len(ids) > 2)

    monkeypatch.setattr(decoder.Decoder, "run_pass", run)
    assert row_bits.find_row_bits(graph_of(codes)) == "none"


def test_a_cache_of_floats_never_takes_single_rows(tiny_word_pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder.Decoder, "run_pass", scripted(KERNELS["all"]))
    assert row_bits.find_row_bits(graph_of(tiny_word_pair.bundle)) == "pairs"


def test_a_bundle_of_before_windows_were_named_is_not_asked(codes: Path) -> None:
    graph = graph_of(codes)
    record = dataclasses.replace(graph.record, passes=(*graph.record.passes, "window-attention"), windows=None)
    assert row_bits.find_row_bits(dataclasses.replace(graph, record=record)) == "none"


def turned(differs: Differs, run: Callable[..., Rows]) -> Callable[..., Rows]:
    """The real pass, whose logits are shifted by ids as the size of the pass says."""

    def shifted(self: decoder.Decoder, ids: list[int], first: int, last: int) -> Rows:
        rows, by = run(self, ids, first, last), differs(len(ids))
        if isinstance(rows, list):
            size = self.model.record.vocabulary_size
            return [Summary((row.argmax + by) % size, row.top1, row.log_sum_exp) for row in rows]
        return np.roll(rows, by, axis=-1)

    return shifted


@pytest.mark.parametrize("kind", ["pairs", "none"])
def test_what_a_manifest_promises_is_not_believed(
    codes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: RowBits
) -> None:
    bundle = Path(shutil.copytree(codes, tmp_path / "bundle"))
    manifest = json.loads((bundle / "nudge.json").read_text())
    for model in manifest["models"].values():
        model["steady_rows"] = True
    (bundle / "nudge.json").write_text(json.dumps(manifest))
    monkeypatch.setenv("NUDGE_ONNX_CACHE", str(tmp_path))
    monkeypatch.setattr(decoder.Decoder, "run_pass", turned(KERNELS[kind], decoder.Decoder.run_pass))
    with NudgedLM.load(bundle) as lm:
        assert all(not _more(found, kind) for found in lm.row_bits.values())
        for gamma in (0.2, 0.5, 0.8):
            plain = lm.generate(PROMPT, gamma=gamma, max_new_tokens=30, speculation="off")
            assert lm.generate(PROMPT, gamma=gamma, max_new_tokens=30, speculation=16).pieces == plain.pieces
            assert lm.generate(PROMPT, gamma=gamma, max_new_tokens=30).pieces == plain.pieces


def _more(found: RowBits, than: RowBits) -> bool:
    order = ("none", "eights", "pairs", "all")
    return order.index(found) > order.index(than)


def test_nothing_is_read_ahead_where_no_passes_share_bits(codes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def spied(self: decoder.Decoder, ids: Any, rows: int = 1) -> Rows:
        asked.append(rows)
        return feed(self, ids, rows)

    feed = decoder.Decoder.feed
    monkeypatch.setattr(opening, "remembered_row_bits", lambda _graph, _memory: "none")
    monkeypatch.setattr(decoder.Decoder, "feed", spied)
    with NudgedLM.load(codes) as lm:
        assert lm.row_bits == {"base": "none", "nudge": "none"}
        ahead = lm.generate(PROMPT, gamma=0.5, max_new_tokens=30, speculation=16)
        assert set(asked) == {1}
        assert ahead.timings.passes == ahead.timings.fed
        # A conversation goes on from what is cached.
        messages = [
            {"role": "user", "content": PROMPT},
            {"role": "assistant", "content": ahead.text},
            {"role": "user", "content": "so"},
        ]
        again = lm.generate(messages, gamma=0.5, max_new_tokens=10)
        assert again.timings.fed["base"] < ahead.timings.fed["base"]


def test_answers_in_passes_of_eight_do_not_depend_on_what_is_read_ahead(
    codes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: set[int] = set()

    def spied(self: decoder.Decoder, ids: list[int], first: int, last: int) -> Rows:
        sizes.add(len(ids))
        return run(self, ids, first, last)

    run = decoder.Decoder.run_pass
    monkeypatch.setattr(opening, "remembered_row_bits", lambda _graph, _memory: "eights")
    monkeypatch.setattr(decoder.Decoder, "run_pass", spied)
    with NudgedLM.load(codes) as lm:
        plain = lm.generate(PROMPT, gamma=0.5, max_new_tokens=40, speculation="off")
        for speculation in (3, 16, "auto"):
            ahead = lm.generate(PROMPT, gamma=0.5, max_new_tokens=40, speculation=speculation)
            assert ahead.pieces == plain.pieces
        assert sizes == {8}
        lm.generate("the cat <s> " * 60, max_new_tokens=4)
        assert sizes == {8, 128}


def memory_of(bundle: Path, folder: Path | None, provider: str = "cpu", **opened_with: Any) -> RowMemory:
    manifest = Bundle.open(bundle).manifest
    session = ModelSession(None, manifest.models["base"], provider, opened_with=opened_with)
    return RowMemory.of(session, manifest.files, folder)


def test_an_answer_is_remembered_for_what_it_was_asked_of(codes: Path, tmp_path: Path) -> None:
    memory = memory_of(codes, tmp_path)
    assert memory.get("rows") is None
    memory.put("rows", "all")
    assert memory_of(codes, tmp_path).get("rows") == "all"
    assert memory_of(codes, tmp_path, prepacked=True).get("rows") is None
    memory.put("rows", "pairs")
    assert memory_of(codes, tmp_path).get("rows") == "pairs"
    assert [path.suffix for path in tmp_path.iterdir()] == [".json"]  # nothing half-written stays


def test_an_answer_of_another_processor_is_not_believed(
    codes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory_of(codes, tmp_path).put("rows", "all")
    monkeypatch.setattr("nudge_onnx.runtime.inference.row_memory.processor", lambda: "another one")
    assert memory_of(codes, tmp_path).get("rows") is None


def test_nothing_is_remembered_of_a_device_that_has_no_name(codes: Path, tmp_path: Path) -> None:
    memory = memory_of(codes, tmp_path, provider="cuda")
    memory.put("rows", "pairs")
    assert memory.get("rows") is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"rows": "all"}', '{"rows": "most", "depends_on": {}}', "[" * 9999]
)
def test_a_damaged_answer_is_asked_again(codes: Path, tmp_path: Path, text: str) -> None:
    memory = memory_of(codes, tmp_path)
    memory.put("rows", "all")
    next(tmp_path.iterdir()).write_text(text)
    assert memory.get("rows") is None
    memory.put("rows", "none")
    assert memory.get("rows") == "none"


def test_a_folder_that_cannot_be_written_is_no_error(codes: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    memory = memory_of(codes, tmp_path / "file")
    memory.put("rows", "all")
    assert memory.get("rows") is None


def test_the_users_folder_is_moved_by_a_variable(codes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUDGE_ONNX_CACHE", str(tmp_path / "moved"))
    memory_of(codes, None).put("rows", "all")
    assert len(list((tmp_path / "moved").iterdir())) == 1


def test_two_writers_leave_one_whole_answer(codes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory, other = memory_of(codes, tmp_path), memory_of(codes, tmp_path)
    rename = Path.replace

    def meanwhile(self: Path, target: Path) -> Path:
        monkeypatch.setattr(Path, "replace", rename)
        other.put("rows", "pairs")
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", meanwhile)
    memory.put("rows", "all")
    assert memory.get("rows") == "all"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_graph_is_asked_once(codes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph, asked = graph_of(codes), []

    def find(graph: ModelSession) -> RowBits:
        asked.append(graph)
        return "pairs"

    monkeypatch.setattr(row_bits, "find_row_bits", find)
    memory = memory_of(codes, tmp_path)
    assert [row_bits.remembered_row_bits(graph, memory) for _ in range(3)] == ["pairs"] * 3
    assert len(asked) == 1


def test_a_graph_that_cannot_run_is_asked_again(codes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_graph: ModelSession) -> RowBits:
        raise ProviderError("no device")

    monkeypatch.setattr(row_bits, "find_row_bits", broken)
    memory = memory_of(codes, tmp_path)
    assert row_bits.remembered_row_bits(graph_of(codes), memory) == "none"
    assert memory.get("rows") is None
