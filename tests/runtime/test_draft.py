from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer as Trained
from tokenizers import decoders, models, pre_tokenizers

from nudge_onnx.runtime.nudging.draft import Draft, token_hand_overs, word_hand_overs
from nudge_onnx.runtime.text.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """One token a byte, and a few words."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trained = Trained(models.BPE({char: i for i, char in enumerate(alphabet)}, []))
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trained.decoder = decoders.ByteLevel()
    path: Path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    trained.save(str(path))
    return Tokenizer(path)


def draft(text: str, tokenizer: Tokenizer) -> Draft:
    ids = tuple(tokenizer.encode(text))
    return Draft(ids, (0.5,) * len(ids), False, tokenizer)


@pytest.mark.parametrize(
    ("text", "accepted"),
    [
        ("the cat sat", ["the", "the cat"]),
        (" the cat", [" the"]),
        ("   the cat", ["   the"]),
        ("one", []),
        ("", []),
        ("  ", []),
        ("a  b", ["a "]),
        ("a   b c", ["a  ", "a   b"]),
        ("a\nb\n\nc d", ["a\nb\n\nc"]),
        ("a b ", ["a"]),
        ("né à 东", ["né", "né à"]),
    ],
)
def test_word_hand_overs_stand_before_the_one_space_that_leads_a_word(
    text: str, accepted: list[str], tokenizer: Tokenizer
) -> None:
    one = draft(text, tokenizer)
    assert [one.text[: cut.chars] for cut in word_hand_overs(one)] == accepted
    assert all(not cut.inside and cut.tokens == len(text[: cut.chars].encode()) for cut in word_hand_overs(one))


def test_token_hand_overs_skip_the_inside_of_a_character(tokenizer: Tokenizer) -> None:
    one = draft("aé东b", tokenizer)
    assert [(cut.chars, cut.tokens) for cut in token_hand_overs(one)] == [(1, 1), (2, 3), (3, 6)]


def test_what_is_accepted_carries_its_own_tokens(tokenizer: Tokenizer) -> None:
    one = draft("hi you", tokenizer)
    ids, top1, text = one.up_to(word_hand_overs(one)[0])
    assert (tuple(ids), list(top1), text) == (one.ids[:2], [0.5, 0.5], "hi")


def test_a_character_that_only_begins_is_no_text(tokenizer: Tokenizer) -> None:
    cut = tuple(tokenizer.encode("a东"))[:-1]
    assert Draft(cut, (0.5,) * len(cut), True, tokenizer).text == "a"
