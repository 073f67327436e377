"""A base model of the paper's relative size, and a pair with one vocabulary, on real weights: `make test-large`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from real import EVERY
from tokenizers import Tokenizer

from nudge_onnx import NudgedLM
from nudge_onnx.runtime.inference.decoder import Decoder
from nudge_onnx.runtime.inference.opening import open_model

pytestmark = pytest.mark.large

ALL_PROMPTS = (
    "Explain photosynthesis to a child.",
    "Is a bicycle useful? Answer yes or no, and say why.",
    "Write a Python function that reverses the words of a sentence.",
    "A farmer has 12 hens and buys 30 more. How many hens are there?",
    "List three facts about the moon.",
    "Translate to French: I like an old clock.",
    "What is a good friend?",
    "Why is the sky blue?",
    "Write two lines of a poem about bread.",
    "How do I make tea?",
)
PROMPTS = ALL_PROMPTS[::EVERY]
TOKENS = 24


@pytest.fixture(scope="module", params=os.environ.get("NUDGE_LARGE_PAIRS", "large shared").split())
def lm(request: pytest.FixtureRequest) -> Iterator[NudgedLM]:
    name: str = request.param
    with NudgedLM.load(Path(os.environ.get(f"NUDGE_{name.upper()}", f".cache/bundles/{name}-int8"))) as loaded:
        yield loaded


def policies(lm: NudgedLM) -> tuple[str, ...]:
    return ("word", "token") if lm.bundle.manifest.shared_vocabulary else ("word",)


def test_reading_ahead_changes_nothing(lm: NudgedLM) -> None:
    for policy in policies(lm):
        wrote = {"base": 0, "nudge": 0}
        for prompt in PROMPTS:
            plain = lm.generate(prompt, policy=policy, speculation="off", max_new_tokens=TOKENS)
            for speculation in ("auto", 8):
                ahead = lm.generate(prompt, policy=policy, speculation=speculation, max_new_tokens=TOKENS)
                assert ahead.pieces == plain.pieces, (prompt, policy, speculation)
                assert ahead.finish_reason == plain.finish_reason
            for source, count in plain.tokens.items():
                wrote[source] += count
        # Both models speak, or the comparison would say little.
        assert min(wrote.values()) >= len(PROMPTS)


def test_the_nudging_model_writes_the_smaller_part(lm: NudgedLM) -> None:
    answers = [lm.generate(prompt, max_new_tokens=TOKENS) for prompt in ALL_PROMPTS]
    tokens = {source: sum(answer.tokens[source] for answer in answers) for source in ("base", "nudge")}
    assert 0.02 < tokens["nudge"] / sum(tokens.values()) < 0.45


def test_an_ensemble_takes_what_both_models_find_likely(lm: NudgedLM) -> None:
    if not lm.bundle.manifest.shared_vocabulary:
        assert lm.bundle.manifest.defaults.policy == "word"
        return
    decoders = {role: Decoder(open_model(lm.bundle, role, ["cpu"])) for role in ("base", "nudge")}
    record = lm.bundle.manifest.models["base"]
    tokenizer = Tokenizer.from_file(str(lm.bundle.path(record.tokenizer)))
    for prompt in PROMPTS[:3]:
        messages = [{"role": "user", "content": prompt}]
        read = {role: lm.prompt(role, messages).ids for role in decoders}
        written: list[int] = []
        while len(written) < 12:
            mean = sum(_probabilities(decoder, read[role]) for role, decoder in decoders.items()) / 2
            token = int(mean.argmax())
            if token in record.end_token_ids:
                break
            written.append(token)
            read = {role: [token] for role in read}
        for decoder in decoders.values():
            decoder.rewind(0)
        assert len(written) > 3
        answer = lm.generate(prompt, mode="ensemble", max_new_tokens=12)
        assert answer.text == tokenizer.decode(written, skip_special_tokens=False)


def _probabilities(decoder: Decoder, ids: list[int]) -> npt.NDArray[np.float64]:
    logits = np.asarray(decoder.feed(ids)[-1], np.float64)
    powers = np.exp(logits - logits.max())
    found: npt.NDArray[np.float64] = powers / powers.sum()
    return found
