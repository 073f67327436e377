"""A decoder of a quantised model: rows that do not depend on their company, and prompts that are read at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pairs import Pair, exported

from nudge_onnx import NudgedLM
from nudge_onnx.bundle import Bundle
from nudge_onnx.export.passes import PROMPT_ROWS
from nudge_onnx.runtime.decoder import Decoder
from nudge_onnx.runtime.session import open_graph

IDS = [int(token) for token in np.random.default_rng(3).integers(4, 300, 300)]


@pytest.fixture(scope="module")
def bundle(tiny_word_pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("quantised") / "bundle"
    return exported(tiny_word_pair.base, tiny_word_pair.nudge, output, "--precision", "int8")


@pytest.fixture(params=["base", "nudge"])
def decoder(request: pytest.FixtureRequest, bundle: Path) -> Decoder:
    return Decoder(open_graph(Bundle.open(bundle), request.param, ["cpu"], threads=1))


def parts_of(size: int, end: int = 250) -> Iterator[list[int]]:
    return (IDS[at : min(at + size, end)] for at in range(0, end, size))


def test_rows_have_the_same_bits_however_the_ids_are_spread_over_calls(decoder: Decoder) -> None:
    assert decoder.least_rows == (2 if decoder.graph.rows == "pairs" else 1)
    singly = np.concatenate([decoder.feed(part).copy() for part in parts_of(1)])
    assert decoder.passes == 250
    for size in (7, 128, 250):
        decoder.rewind(0)
        found = np.concatenate([decoder.feed(part, rows=len(part)).copy() for part in parts_of(size)])
        np.testing.assert_array_equal(found, singly)


@pytest.mark.parametrize(("length", "passes"), [(1, 1), (100, 1), (128, 2), (129, 2), (300, 2)])
def test_a_long_prompt_takes_one_pass_and_one_for_its_last_id(decoder: Decoder, length: int, passes: int) -> None:
    first = decoder.prefill(IDS[:length]).copy()
    if decoder.graph.rows == "none" and length <= PROMPT_ROWS:
        passes = length  # what is not read by blocks is read singly
    assert (decoder.length, decoder.passes) == (length, passes)
    again = decoder.prefill(IDS[length - 1 : length], kept=length - 1)
    np.testing.assert_array_equal(again, first)
    assert decoder.length == length
    # As near as rounding the cache lets them be, and nearer than chance by far.
    decoder.rewind(0)
    assert np.abs(decoder.feed(IDS[:length]) - first).mean() < 0.1 * np.std(first)


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
