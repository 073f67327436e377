"""What an exported model's prompt is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny import CHAT_TEMPLATE, tiny_tokenizer
from transformers import PreTrainedTokenizerFast

from nudge_onnx.errors import ExportError, SourceError
from nudge_onnx.export.source.prompts import base_prompt, chat_prompt, looks_aligned, read_template
from nudge_onnx.export.source.tokenizer_file import same_vocabulary
from nudge_onnx.runtime.text.templates import render


def tokenizer(template: Any = CHAT_TEMPLATE, **arguments: Any) -> PreTrainedTokenizerFast:
    fast = PreTrainedTokenizerFast(tokenizer_object=tiny_tokenizer(**arguments), bos_token="<s>", eos_token="</s>")
    fast.chat_template = template
    return fast


SYSTEM = {"role": "system", "content": "Answer briefly."}
MESSAGES = [{"role": "user", "content": "Why is the sky blue?"}]


def test_a_base_model_reads_plain_text_with_a_newline_after_each_message() -> None:
    assert render(base_prompt(), MESSAGES) == "Why is the sky blue?\n"
    assert render(base_prompt(), [SYSTEM, *MESSAGES]) == "Answer briefly.\nWhy is the sky blue?\n"
    assert render(base_prompt(), [{"role": "system", "content": ""}, *MESSAGES]) == "Why is the sky blue?\n"
    assert base_prompt().add_bos


def test_a_nudging_model_reads_what_transformers_would_give_it() -> None:
    fast = tokenizer()
    prompt = chat_prompt(fast, "small", rows=320)
    assert not prompt.add_bos
    expected = fast.apply_chat_template(MESSAGES, tokenize=False, add_generation_prompt=True)
    assert render(prompt, MESSAGES) == expected
    assert expected.startswith("<s><|im_start|>user")


def test_a_named_template_and_training_marks_stay_as_they_are() -> None:
    marked = "{% for m in messages %}\n{% generation %}\n{{ m.content }}\n{% endgeneration %}\n{% endfor %}"
    fast = tokenizer({"default": marked, "tool_use": "no"})
    prompt = chat_prompt(fast, "small", rows=320)
    assert prompt.template == marked
    assert render(prompt, MESSAGES) == fast.apply_chat_template(MESSAGES, tokenize=False, add_generation_prompt=True)
    assert render(prompt, MESSAGES) == "Why is the sky blue?\n"


def test_a_nudging_model_without_chat_template_is_refused() -> None:
    with pytest.raises(SourceError, match=r"^org/small has no chat template"):
        chat_prompt(tokenizer(None), "org/small", rows=320)


def test_a_template_is_chosen_by_name_file_or_text(tmp_path: Path) -> None:
    several = tokenizer({"chat": CHAT_TEMPLATE, "tool_use": "no {{ messages }}"})
    with pytest.raises(SourceError, match=r"^small has several .* choose one with --chat-template: chat, tool_use$"):
        chat_prompt(several, "small", rows=320)
    assert chat_prompt(several, "small", rows=320, chosen="chat").template == CHAT_TEMPLATE
    (tmp_path / "own.jinja").write_text("own {{ messages[0].content }}")
    for fast in (several, tokenizer(None)):
        assert chat_prompt(fast, "small", rows=320, chosen=str(tmp_path / "own.jinja")).template.startswith("own ")
        assert chat_prompt(fast, "small", rows=320, chosen="{{ messages }}").template == "{{ messages }}"
    with pytest.raises(ExportError, match=r"^--chat-template absent: no such file"):
        chat_prompt(several, "small", rows=320, chosen="absent")
    (tmp_path / "bytes.jinja").write_bytes(b"\xff{{ }}")
    with pytest.raises(ExportError, match=r"^--chat-template .*bytes.jinja: it cannot be read \("):
        chat_prompt(several, "small", rows=320, chosen=str(tmp_path / "bytes.jinja"))


@pytest.mark.parametrize(
    ("name", "template", "aligned"),
    [
        ("org/Model-2B-Instruct", CHAT_TEMPLATE, True),
        ("org/gemma-2-2b-it", CHAT_TEMPLATE, True),
        ("org/llama-2-7b-chat-hf", CHAT_TEMPLATE, True),
        ("org/model-2b", "{# instruct format #}" + CHAT_TEMPLATE, True),
        ("org/model-2b", CHAT_TEMPLATE, False),
        ("org/Model-2B-Instruct", None, False),
        ("org/kitchen-spit-7b", CHAT_TEMPLATE, False),
        ("model.gguf model Some Model Instruct", CHAT_TEMPLATE, True),
        ("model.gguf", CHAT_TEMPLATE.replace("<|im_end|>", "</s>"), True),
    ],
)
def test_a_base_that_is_an_instruct_model_is_noticed(name: str, template: str | None, aligned: bool) -> None:
    assert looks_aligned(tokenizer(template), name) is aligned


def test_a_base_template_is_a_file_or_the_text_itself(tmp_path: Path) -> None:
    (tmp_path / "base.jinja").write_text("Q: {{ messages[-1].content }}\nA:")
    assert read_template(str(tmp_path / "base.jinja")) == "Q: {{ messages[-1].content }}\nA:"
    assert read_template("{{ messages[0].content }}") == "{{ messages[0].content }}"
    with pytest.raises(ExportError, match=r"^--base-template missing.jinja: no such file"):
        read_template("missing.jinja")
    with pytest.raises(ExportError, match="not valid Jinja"):
        read_template("{% for message in messages %}")


def test_vocabularies_are_shared_only_if_every_text_gets_the_same_ids() -> None:
    assert same_vocabulary(tokenizer(), tokenizer(None))
    assert same_vocabulary(tokenizer(bos=True), tokenizer(bos=False))
    assert not same_vocabulary(tokenizer(), tokenizer(vocabulary=300))
    other = tokenizer()
    other.add_tokens(["sky"])
    assert not same_vocabulary(tokenizer(), other)
