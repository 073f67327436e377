"""Text of messages that spells control tokens, and tokens that a model has no row for."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from pairs import Pair, byte_level

from nudge_onnx import NudgedLM
from nudge_onnx.bundle import Prompt
from nudge_onnx.errors import NudgeError
from nudge_onnx.runtime.text.control_tokens import prompt_ids
from nudge_onnx.runtime.text.tokenizer import Tokenizer

TOKENIZERS = sorted((Path(__file__).parents[1] / "conformance" / "tokenizers").glob("*.json"))
TURN = "{{ begin + message.role }}\n{{ message.content | trim }}{{ end }}\n"
TEMPLATE = "{{ bos }}{% for message in messages %}" + TURN + "{% endfor %}"
TOKENS = {"bos": "<s>", "begin": "<|im_start|>", "end": "<|im_end|>"}
# The same tokens under names that nobody writes: then what a message spells is text.
RENAMED = {"<s>": "\ue000", "<|im_start|>": "\ue001", "<|im_end|>": "\ue002", "</s>": "\ue003"}
PIECES = (
    "<|im_end|>",
    "<|im_start|>",
    "</s>",
    "<s>",
    "<|im_",
    "end|>",
    "<",
    ">",
    "/s>",
    "|>",
    " ",
    "\n",
    "the cat",
    "é日",
)


def messages(*contents: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[number % 2], "content": content} for number, content in enumerate(contents)]


def renamed(path: Path, folder: Path) -> Tokenizer:
    """The tokenizer with its special tokens spelled in another way."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for token in content["added_tokens"]:
        token["content"] = RENAMED.get(token["content"], token["content"])
    content["model"]["vocab"] = {RENAMED.get(token, token): i for token, i in content["model"]["vocab"].items()}
    content["model"]["unk_token"] = RENAMED.get(content["model"]["unk_token"])
    content["post_processor"] = None
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    return Tokenizer(folder / "tokenizer.json")


@pytest.mark.parametrize("path", TOKENIZERS, ids=lambda path: path.stem)
def test_escaped_text_has_the_ids_of_text(path: Path, tmp_path: Path) -> None:
    ours, theirs = Tokenizer(path), renamed(path, tmp_path)
    ordinary, other = (
        Prompt(TEMPLATE, TOKENS),
        Prompt(TEMPLATE, {name: RENAMED[token] for name, token in TOKENS.items()}),
    )
    draw = random.Random(1)
    for _ in range(60):
        conversation = messages(*("".join(draw.choices(PIECES, k=draw.randrange(1, 9))) for _ in range(3)))
        escaped = prompt_ids(ordinary, conversation, ours, "base", "escape")
        assert escaped.ids == prompt_ids(other, conversation, theirs, "base", "allow").ids, conversation
        # What the model then writes is joined to the text as it was written.
        answer = " so " + draw.choice(PIECES)
        assert escaped.encode(answer)[: len(escaped.ids) - 1] == escaped.ids[:-1]


@pytest.mark.parametrize("path", TOKENIZERS, ids=lambda path: path.stem)
def test_ordinary_text_has_the_same_ids_in_every_way(path: Path) -> None:
    prompt = Prompt(TEMPLATE, TOKENS, add_bos=True)
    conversation = messages("Why is 1 < 2?", " the cat\n\nsat", "naïve | 日本 >")
    ids = [prompt_ids(prompt, conversation, Tokenizer(path), "base", way).ids for way in ("allow", "refuse", "escape")]
    assert ids[0] == ids[1] == ids[2]


def test_a_token_may_not_be_begun_by_one_message_and_ended_by_another() -> None:
    path = next(path for path in TOKENIZERS if path.stem == "digits")
    tokenizer = Tokenizer(path)
    joined = Prompt("{% for message in messages %}{{ message.content | trim }}{% endfor %}")
    halves = messages("the <|im_ ", " end|> cat", " <", "|im_end|>", "<", "/s>")
    special = tokenizer.special_ids
    assert special & set(prompt_ids(joined, halves, tokenizer, "base", "allow").ids)
    assert not special & set(prompt_ids(joined, halves, tokenizer, "base", "escape").ids)
    assert not special & set(prompt_ids(joined, halves, tokenizer, "base", "refuse").ids)


def test_a_message_that_spells_a_token_is_refused_by_its_name(tiny_word_pair: Pair) -> None:
    with NudgedLM.load(tiny_word_pair.bundle) as lm:
        for prompt in ("so <|im_end|> it", messages("hi", "<s>", "so")):
            with pytest.raises(NudgeError, match=r"spells '(<\|im_end\|>|<s>)', a control token of the base model"):
                lm.generate(prompt, control_tokens="refuse")
            with pytest.raises(NudgeError, match="of the nudge model"):
                lm.generate(prompt, control_tokens="refuse", mode="nudge")
            assert lm.generate(prompt, control_tokens="escape", max_new_tokens=4).pieces
            assert lm.generate(prompt, max_new_tokens=4).pieces
        with pytest.raises(NudgeError, match="control_tokens must be one of 'allow', 'refuse', 'escape', not 'drop'"):
            lm.generate("hi", control_tokens="drop")


def test_a_token_without_a_row_is_refused_where_it_is_fed(tmp_path: Path) -> None:
    tokenizer = byte_level(["the", "cat"])
    rows = tokenizer.get_vocab_size()
    tokenizer.add_special_tokens(["<image>"])
    tokenizer.add_tokens(["<beyond>"])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    ours = Tokenizer(tmp_path / "tokenizer.json", "base", rows)
    plain = Prompt("{{ messages[0].content }}")
    said = r"holds '<image>', which is token \d+, and the base model has \d+ rows"
    assert prompt_ids(plain, messages("the cat"), ours, "base", "allow").ids
    with pytest.raises(NudgeError, match=said):
        prompt_ids(plain, messages("the <image> cat"), ours, "base", "allow")
    with pytest.raises(NudgeError, match=said):
        prompt_ids(Prompt("<image>{{ messages[0].content }}"), messages("the"), ours, "base", "escape")
    with pytest.raises(NudgeError, match="'<beyond>'"):
        ours.encode("the <beyond>")
    # As text it is no token.
    assert max(prompt_ids(plain, messages("the <image> cat"), ours, "base", "escape").ids) < rows
    assert max(ours.encode("the <image>")) < rows
