"""Naive nudging, which is what peers are measured with, follows the same rule as the runtime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from pairs import Pair, rendered
from tokenizers import Tokenizer

from benchmarks.workers.naive_loop import Voice, nudged
from nudge_onnx import NudgedLM
from nudge_onnx.bundle import Bundle
from nudge_onnx.runtime.inference.decoder import Decoder
from nudge_onnx.runtime.inference.opening import open_model

TOKENS = 40


def voice(bundle: Bundle, role: str, prompt: str) -> Voice:
    """One model of a bundle that reads everything again for each token."""
    record = bundle.manifest.models[role]
    decoder = Decoder(open_model(bundle, role, ["cpu"], threads=1))

    def after(ids: Sequence[int]) -> Any:
        decoder.rewind(0)
        return decoder.feed(ids)[-1].copy()

    tokenizer = Tokenizer.from_file(str(bundle.path(record.tokenizer)))
    ends = frozenset(record.end_token_ids)
    return Voice(after, tokenizer, rendered(record, prompt), record.prompt.add_bos, ends)


@pytest.mark.parametrize("prompt", ["the cat", "so be it"])
def test_it_writes_what_the_runtime_writes(tiny_word_pair: Pair, prompt: str) -> None:
    bundle = Bundle.open(tiny_word_pair.bundle)
    gamma = bundle.manifest.defaults.gamma
    text, tokens, nudging = nudged(voice(bundle, "base", prompt), voice(bundle, "nudge", prompt), gamma, TOKENS)
    with NudgedLM.load(tiny_word_pair.bundle, threads=1) as lm:
        answer = lm.generate(prompt, max_new_tokens=TOKENS)
    # The runtime cuts the last draft at the limit; the naive loop lets it stand.
    assert text.startswith(answer.text) or answer.text.startswith(text)
    assert 0 < nudging < tokens
    assert min(len(text), len(answer.text)) > 0.6 * max(len(text), len(answer.text))
