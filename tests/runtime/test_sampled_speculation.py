"""Sampling under speculation: the base model's tokens keep exactly the base model's distribution."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from nudge_onnx.runtime.choosing.choosers import Chooser
from nudge_onnx.runtime.choosing.gates import Softmax
from nudge_onnx.runtime.choosing.sampling import Sampling
from nudge_onnx.runtime.inference.remembered_rows import RememberedRows
from nudge_onnx.runtime.nudging.draft import token_hand_overs
from nudge_onnx.runtime.nudging.loop import NudgingLoop
from nudge_onnx.runtime.nudging.participant import IdParticipant
from nudge_onnx.runtime.nudging.speculation import Speculation
from nudge_onnx.runtime.nudging.transcript import Transcript
from nudge_onnx.runtime.text.prompt import PromptIds
from tests.runtime.scripted import END, PROMPT, ScriptedDecoder, byte_tokenizer

LETTERS = "abcd"
BASE = np.array([0.5, 0.25, 0.15, 0.1])
NUDGE = np.array([0.4, 0.4, 0.1, 0.1])
ANSWERS = 1500
# 99.9 % quantile of chi-square with 3 degrees of freedom; the seeds are fixed.
LIMIT = 16.27


class Dice(ScriptedDecoder):
    """The same distribution over four letters at every position."""

    def __init__(self, distribution: np.ndarray) -> None:
        super().__init__(lambda _answer: ("", 0.5))
        self._row = np.full(257, -40.0, np.float32)
        self._row[[ord(letter) + 1 for letter in LETTERS]] = np.log(distribution)

    def _logits(self, _length: int) -> np.ndarray:
        return self._row


def always(_softmax: Softmax, _gamma: float) -> bool:
    return True


@pytest.mark.parametrize("ahead", ["off", 4])
def test_what_the_base_model_writes_has_its_own_distribution(tmp_path: Path, ahead: str | int) -> None:
    tokenizer = byte_tokenizer(tmp_path)
    counts: Counter[str] = Counter()
    accepted = checked = 0
    for seed in range(ANSWERS):
        decoders = Dice(BASE), Dice(NUDGE)
        writers = []
        for decoder in decoders:
            reader: RememberedRows = RememberedRows(decoder)  # type: ignore[arg-type]
            reader.start(Chooser("base", Sampling(temperature=1, seed=seed), always, 0.5, 1))
            writers.append(IdParticipant(reader, PromptIds(tokenizer, PROMPT, False), tokenizer, frozenset([END])))
        speculation = Speculation(ahead, decoders[0].costs, decoders[1].costs)  # type: ignore[arg-type]
        loop = NudgingLoop(*writers, Transcript(6), token_hand_overs, 3, speculation)
        pieces = list(loop.run())
        # The first token is the nudging model's; the base model writes the rest.
        assert [piece.source for piece in pieces] == ["nudge"] + ["base"] * 5
        counts.update("".join(piece.text for piece in pieces[1:]))
        accepted += speculation.accepted
        checked += speculation.checked
    assert chi_square([counts[letter] for letter in LETTERS], BASE) < LIMIT
    if ahead != "off":
        # Independent draws would agree on a third of the positions; shared noise promises (1 - 0.15) / (1 + 0.15).
        assert accepted / checked > 0.7


def chi_square(counts: Sequence[int], expected: np.ndarray) -> float:
    observed = np.array(counts)
    wanted = expected * observed.sum()
    return float(((observed - wanted) ** 2 / wanted).sum())
