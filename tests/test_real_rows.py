"""What speculation rests on, on the real graphs: a row's logits do not depend on how many rows its pass has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from real import part, real_bundle

from nudge_onnx.bundle import Bundle
from nudge_onnx.runtime.inference.decoder import Decoder
from nudge_onnx.runtime.inference.opening import open_model
from nudge_onnx.runtime.text.tokenizer import Tokenizer

TEXT = Path(__file__).read_text(encoding="utf-8") + (Path(__file__).parent / "oracle.py").read_text(encoding="utf-8")
CHECKED = 72


# Behind 1,152 positions Gemma's attention with a window reads the end of its cache.
@pytest.mark.real
@pytest.mark.parametrize("filled", part([1120, 150]))
@pytest.mark.parametrize("role", ["base", "nudge"])
@pytest.mark.parametrize("precision", ["fp32", "int8", "int4"])
def test_logits_are_equal_to_the_last_bit_whatever_the_size_of_a_pass(precision: str, role: str, filled: int) -> None:
    bundle = Bundle.open(real_bundle(precision))
    ids = Tokenizer(bundle.path(bundle.manifest.models[role].tokenizer)).encode(TEXT)[: filled + CHECKED]
    assert len(ids) == filled + CHECKED
    decoder = Decoder(open_model(bundle, role, ["cpu"]))
    decoder.feed(ids[:filled])

    def read(step: int) -> np.ndarray:
        """Logits of the checked ids, read in passes of `step` ids on a cache that was filled in one pass."""
        decoder.rewind(filled)
        parts = (ids[at : at + step] for at in range(filled, filled + CHECKED, step))
        return np.concatenate([decoder.feed(part, rows=len(part)).copy() for part in parts])

    singly = read(1)
    for step in (2, 5, 16, 17, CHECKED):
        np.testing.assert_array_equal(read(step), singly)
