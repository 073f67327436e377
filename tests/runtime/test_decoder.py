"""A decoder of a quantised model: rows that do not depend on their company, and prompts that are read at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pairs import Pair, exported

from nudge_onnx import NudgedLM
from nudge_onnx.bundle import Bundle
from nudge_onnx.runtime.inference.decoder import Decoder
from nudge_onnx.runtime.inference.edges import Edges
from nudge_onnx.runtime.inference.opening import open_model
from nudge_onnx.runtime.inference.row_bits import share_bits
from nudge_onnx.runtime.sessions.model_session import ModelSession

IDS = [int(token) for token in np.random.default_rng(3).integers(4, 300, 300)]


@pytest.fixture(scope="module")
def bundle(tiny_word_pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("quantised") / "bundle"
    return exported(tiny_word_pair.base, tiny_word_pair.nudge, output, "--precision", "int8")


@pytest.fixture(params=["base", "nudge"])
def decoder(request: pytest.FixtureRequest, bundle: Path) -> Decoder:
    return Decoder(open_model(Bundle.open(bundle), request.param, ["cpu"], threads=1))


@pytest.fixture
def eights(bundle: Path) -> Decoder:
    """One that takes passes of eight, whether or not they share bits here."""
    return Decoder(dataclasses.replace(open_model(Bundle.open(bundle), "nudge", ["cpu"], threads=1), rows="eights"))


def test_passes_of_eight_are_filled_up(eights: Decoder) -> None:
    # Kernels of processors without AVX2 tell the last rows of a pass from the first.
    same = share_bits(eights.model)
    singly = np.concatenate([eights.feed(part).copy() for part in parts_of(1)])
    assert (eights.passes, eights.fed, eights.length) == (250, 250, 250)
    for size, passes in ((7, 36), (8, 32), (9, 55), (250, 32)):
        eights.rewind(0)
        before = eights.passes
        found = np.concatenate([eights.feed(part, rows=len(part)).copy() for part in parts_of(size)])
        assert eights.passes - before == passes
        if same:
            np.testing.assert_array_equal(found, singly)
        else:
            np.testing.assert_allclose(found, singly, atol=1e-4)


def test_passes_of_eight_leave_room_at_the_end_of_the_context(eights: Decoder) -> None:
    assert eights.context_length == eights.model.record.context_length - 7


def parts_of(size: int, end: int = 250) -> Iterator[list[int]]:
    return (IDS[at : min(at + size, end)] for at in range(0, end, size))


def test_rows_have_the_same_bits_however_the_ids_are_spread_over_calls(decoder: Decoder) -> None:
    assert decoder.least_rows == (2 if decoder.model.rows == "pairs" else 1)
    singly = np.concatenate([decoder.feed(part).copy() for part in parts_of(1)])
    assert decoder.passes == 250
    for size in (7, 128, 250):
        decoder.rewind(0)
        found = np.concatenate([decoder.feed(part, rows=len(part)).copy() for part in parts_of(size)])
        np.testing.assert_array_equal(found, singly)


@pytest.mark.parametrize(("length", "passes"), [(1, 1), (100, 1), (128, 2), (129, 2), (257, 3), (300, 3)])
def test_a_prompt_is_read_in_blocks_and_what_is_left(decoder: Decoder, length: int, passes: int) -> None:
    first = decoder.prefill(IDS[:length]).copy()
    if decoder.model.rows == "all":
        # Of 128 ids the last is none of the block; what is left is cut where attention with a window changes.
        cuts = Edges(decoder.model.record).between((length - 1) // 128 * 128, length)
        assert decoder.passes == passes + len(cuts)
    assert decoder.length == length
    again = decoder.prefill(IDS[length - 1 : length], kept=length - 1)
    np.testing.assert_array_equal(again, first)
    assert decoder.length == length
    # As near as rounding the cache lets them be, and nearer than chance by far.
    decoder.rewind(0)
    assert np.abs(decoder.feed(IDS[:length]) - first).mean() < 0.1 * np.std(first)


@pytest.mark.parametrize("shared", [20, 128, 200, 256, 299])
@pytest.mark.parametrize("before", [[], [0], [0, 1], [1]])
def test_a_prompt_has_the_same_bits_whatever_was_kept(decoder: Decoder, before: list[int], shared: int) -> None:
    blocks = [0, 1]
    fresh = [decoder.prefill(IDS, blocks=blocks).copy(), *(decoder.feed([token]).copy() for token in IDS[:8])]
    # Another prompt that shares a part, and parts otherwise; then an answer goes back into the last block.
    other = IDS[:shared] + [5, 6, 7] * 60
    decoder.prefill(other, blocks=before)
    kept = decoder.kept(shared, blocks)
    assert kept <= shared
    again = [decoder.prefill(IDS[kept:], kept, blocks).copy(), *(decoder.feed([token]).copy() for token in IDS[:8])]
    np.testing.assert_array_equal(again, fresh)


def test_what_is_read_as_it_is_wanted_is_kept(decoder: Decoder) -> None:
    decoder.prefill(IDS, blocks=[0])
    assert decoder.kept(256, [0]) == 256
    assert decoder.kept(128, [0]) == 128
    # The second block was read in steps, and a part of the first has other neighbours.
    assert decoder.kept(290, [0, 1]) == 128
    assert decoder.kept(127, [0]) == 0
    assert decoder.kept(290, []) == 0
    decoder.rewind(100)
    decoder.feed(IDS[100:200])
    assert decoder.kept(128, [0]) == 128  # begun whole


def test_what_is_kept_is_not_read_again(decoder: Decoder) -> None:
    whole = decoder.prefill(IDS[:100]).copy()
    np.testing.assert_array_equal(decoder.prefill(IDS[60:100], kept=60), whole)
    assert decoder.fed == 140


@pytest.mark.parametrize("words", [3, 20])
def test_a_prompt_gets_the_same_answer_after_itself_and_after_others(bundle: Path, words: int) -> None:
    prompt, other = "the cat sat on a mat " * words, "so be it " * 20

    def answer(lm: NudgedLM, text: str) -> list[int]:
        pieces = lm.generate(text, max_new_tokens=24, gamma=0.3).pieces
        return [token for piece in pieces for token in piece.token_ids]

    with NudgedLM.load(bundle, threads=1) as lm:
        first = answer(lm, prompt)
        assert answer(lm, prompt) == first
        answer(lm, other)
        assert answer(lm, prompt) == first


@pytest.mark.parametrize("kind", ["int8", "wide", "fp32"])
def test_a_prompt_gets_one_answer_with_a_system_prompt_that_others_share(
    bundle: Path, tiny_wide_pair: Pair, tiny_word_pair: Pair, kind: str
) -> None:
    folder = {"int8": bundle, "wide": tiny_wide_pair.bundle, "fp32": tiny_word_pair.bundle}[kind]
    system = "the old men sat on a mat and so be it " * 20
    asked = ["a dog ran to town", "the cat", "an hour in no time " * 9]

    def answer(lm: NudgedLM, text: str) -> object:
        answer = lm.generate(text, system_prompt=system, max_new_tokens=12, gamma=0.3)
        return answer.pieces

    fresh = {}
    for text in asked:
        with NudgedLM.load(folder, threads=1) as lm:
            fresh[text] = answer(lm, text)
    with NudgedLM.load(folder, threads=1) as lm:
        for text in (asked[at] for at in (0, 1, 0, 2, 1, 2, 0)):
            assert answer(lm, text) == fresh[text]


def test_an_answer_is_not_read_again_in_a_conversation(bundle: Path) -> None:
    with NudgedLM.load(bundle, threads=1) as lm:
        asked = [{"role": "user", "content": "the cat sat on a mat with men " * 12}]
        answer = lm.generate(asked, max_new_tokens=60, gamma=0.5)
        turns = [{"role": "assistant", "content": answer.text}, {"role": "user", "content": "to town"}]
        second = lm.generate([*asked, *turns], max_new_tokens=1, gamma=0.0)
        # The prompt alone has more, and so has what was answered.
        assert second.timings.fed["base"] < 30
    with NudgedLM.load(bundle, threads=1) as lm:
        assert lm.generate([*asked, *turns], max_new_tokens=1, gamma=0.0).pieces == second.pieces


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_interrupt_at_the_edge_of_a_segment_leaves_what_is_known(
    tiny_wide_pair: Pair, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    decoder = Decoder(open_model(Bundle.open(tiny_wide_pair.bundle), "base", ["cpu"], threads=1))
    expected = decoder.feed(IDS[:140], rows=20).copy()
    run = ModelSession.run

    def interrupted(*arguments: Any) -> None:
        if when == "after":
            run(*arguments)
        raise KeyboardInterrupt

    for known in (62, 63, 64):
        decoder.rewind(0)
        decoder.feed(IDS[:known])
        with monkeypatch.context() as patch:
            patch.setattr(ModelSession, "run", interrupted)
            with pytest.raises(KeyboardInterrupt):
                decoder.feed(IDS[known : known + 1])
        assert decoder.length in (known, known - 1)
        # The last id before the next edge is read with the one before it, which has to be the right one.
        rows = [decoder.feed(IDS[at : at + 1]).copy() for at in range(decoder.length, 140)]
        np.testing.assert_array_equal(np.concatenate(rows[-20:]), expected)
