"""Ids of a growing text: what is remembered of it never shows."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from pairs import WORDS, byte_level, sentencepiece
from real import real_bundle

from nudge_onnx.bundle import Bundle
from nudge_onnx.runtime.text.prompt import PromptIds
from nudge_onnx.runtime.text.tokenizer import Tokenizer

PIECES = (*WORDS, "  ", "\n\n", "1024", "don't", ", and", " = ", "naïve", "Straße", "日本語", "😀", "-----", "\t\tx")


def grown(tokenizer: Tokenizer, prompt: str, seed: int, words: int = 400) -> None:
    """Let a text grow by words and by whatever else a model may write, and compare with encoding it anew."""
    draw = random.Random(seed)
    ids = PromptIds(tokenizer, prompt, add_prefix=False)
    text = ""
    for _ in range(words):
        text += draw.choice(("", " ", " ", " ")) + draw.choice(PIECES)
        ids.settle(text)
        ahead = text + " " + draw.choice(PIECES)
        for asked in (text, ahead):
            assert ids.encode(asked) == tokenizer.encode_prompt(prompt + asked, add_prefix=False)[0]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("make", [byte_level, sentencepiece])
def test_a_text_that_grows_has_the_ids_of_the_whole(make, seed, tmp_path: Path):
    make(WORDS).save(str(tmp_path / "tokenizer.json"))
    grown(Tokenizer(tmp_path / "tokenizer.json"), "Question: so be it?\n", seed)


@pytest.mark.real
@pytest.mark.parametrize("role", ["base", "nudge"])
def test_the_real_tokenizers_settle_nothing_that_changes(role):
    bundle = Bundle.open(real_bundle("int8"))
    tokenizer = Tokenizer(bundle.path(bundle.manifest.models[role].tokenizer))
    grown(tokenizer, "Question: so be it?\nAnswer:", seed=0)


def test_a_long_text_is_not_encoded_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    byte_level(WORDS).save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer(tmp_path / "tokenizer.json")
    ids = PromptIds(tokenizer, "Question?\n", add_prefix=False)
    asked = []
    encode = tokenizer.encode
    monkeypatch.setattr(tokenizer, "encode", lambda text: asked.append(len(text)) or encode(text))
    text = ""
    for word in WORDS * 20:
        text += f" {word}"
        ids.settle(text)
        ids.encode(text)
    assert len(text) > 1000
    assert max(asked) < 200
