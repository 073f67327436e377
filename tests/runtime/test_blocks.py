"""Blocks of a prompt: which are read in one pass is a matter of the prompt alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from pairs import WORDS, byte_level, sentencepiece
from tokenizers import Tokenizer as _Tokenizer

from nudge_onnx.bundle import Prompt
from nudge_onnx.runtime.text.blocks import BLOCK, answer_spans, whole_blocks
from nudge_onnx.runtime.text.control_tokens import ControlTokens, prompt_ids
from nudge_onnx.runtime.text.prompt import PromptIds
from nudge_onnx.runtime.text.tokenizer import Tokenizer

LETTERS = [(at, at + 1) for at in range(600)]
"""Every id is one character."""


@pytest.mark.parametrize(
    ("settled", "answers", "blocks"),
    [
        (0, [], []),
        (127, [], []),
        (128, [], [0]),
        (599, [], [0, 1, 2, 3]),
        (599, [(128, 129)], [0, 2, 3]),
        (599, [(255, 257)], [0, 3]),
        (599, [(0, 1), (500, 590)], [1, 2]),
        (599, [(0, 600)], []),
    ],
)
def test_a_block_is_whole_where_all_of_it_is_settled_and_no_answer(
    settled: int, answers: list[tuple[int, int]], blocks: list[int]
) -> None:
    assert whole_blocks(settled, LETTERS, answers) == blocks


def test_what_earlier_answers_wrote_is_found_behind_what_they_answered() -> None:
    messages = [
        {"role": "system", "content": "no"},
        {"role": "user", "content": "Say no. "},
        {"role": "assistant", "content": "no\n"},
        {"role": "user", "content": "no?"},
        {"role": "assistant", "content": ""},
        {"role": "assistant", "content": "a template may leave this out"},
        {"role": "assistant", "content": "No"},
    ]
    text = "<s>no|Say no.|no|no?|No|"
    assert [text[start:end] for start, end in answer_spans(text, messages)] == ["no", "No"]
    assert answer_spans(text, messages)[0] == (14, 16)


@pytest.mark.parametrize("control_tokens", ["allow", "escape"])
def test_a_conversation_keeps_the_blocks_of_what_was_asked(tmp_path: Path, control_tokens: ControlTokens) -> None:
    byte_level(WORDS).save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer(tmp_path / "tokenizer.json")
    prompt = Prompt("{% for message in messages %}{{ message.content }}\n{% endfor %}", add_bos=False)
    asked = "the cat sat on a mat and dog ran to town with old men <s> " * 40
    messages = [{"role": "user", "content": asked}]
    first = prompt_ids(prompt, messages, tokenizer, "base", control_tokens)
    count = len(first.ids) // BLOCK
    assert count > 3
    assert first.blocks in (list(range(count - 1)), list(range(count)))  # the last ids are not settled
    messages += [{"role": "assistant", "content": "so be it " * 200}, {"role": "user", "content": asked}]
    second = prompt_ids(prompt, messages, tokenizer, "base", control_tokens)
    assert second.blocks[: count - 1] == first.blocks[: count - 1]
    answered = range(len(first.ids) // BLOCK, (len(second.ids) - len(first.ids)) // BLOCK)
    assert answered
    assert not set(answered) & set(second.blocks)
    assert second.blocks[-1] >= len(second.ids) // BLOCK - 2


@pytest.mark.parametrize("text", ["", "so be it " * 40, "a" * 400])
@pytest.mark.parametrize("end", ["", " ", "\n", " so\n\n\n", "\n\n     "])
@pytest.mark.parametrize("make", [byte_level, sentencepiece])
def test_no_text_behind_a_prompt_changes_its_blocks(
    tmp_path: Path, make: Callable[[Iterable[str]], _Tokenizer], text: str, end: str
) -> None:
    make([*WORDS, *(f" {word}" for word in WORDS)]).save(str(tmp_path / "tokenizer.json"))
    prompt = PromptIds(Tokenizer(tmp_path / "tokenizer.json"), text + end + "so", False)
    for answer in ("", " ", "so", "\n", "  \n\n", " be it", "aaaa", "\u00e9"):
        ids = prompt.encode(answer)
        for block in prompt.blocks:
            assert ids[: (block + 1) * BLOCK] == prompt.ids[: (block + 1) * BLOCK]
