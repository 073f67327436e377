"""A conversation whose last message is the assistant's: its turn goes on, in every mode and as the server has it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from conformance.templates import TEMPLATES
from transformers.utils.chat_template_utils import render_jinja_template

from nudge_onnx import NudgedLM, NudgeError, RawPrompt
from nudge_onnx.bundle import Prompt
from nudge_onnx.runtime.text.templates import render
from tests.server.running import MODEL, TOKEN, WORD, running

TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
USER = {"role": "user", "content": "Name a river."}
SYSTEM = {"role": "system", "content": "Be brief."}
SHOTS = [SYSTEM, USER, {"role": "assistant", "content": "The Rhine."}, {"role": "user", "content": "Another."}]


def begun(text: str) -> list[dict[str, str]]:
    return [*SHOTS, {"role": "assistant", "content": text}]


@pytest.fixture(scope="module")
def lm() -> Iterator[NudgedLM]:
    with NudgedLM.load(TOKEN, threads=1) as loaded:
        yield loaded


@pytest.mark.parametrize("name", ["question", "chatml", "gemma", "llama3", "qwen", "whitespace", "generation"])
@pytest.mark.parametrize("text", ["The", "The answer is", "e", "<think>\nhm\n</think>\n\nSo"])
def test_the_prompt_is_that_of_transformers(name: str, text: str) -> None:
    messages = begun(text)
    try:
        (wanted,), _ = render_jinja_template(
            conversations=[messages],
            chat_template=TEMPLATES[name],
            add_generation_prompt=False,
            continue_final_message=True,
            **TOKENS,
        )
    except Exception:  # what it refuses, or where it does not find the message again
        return
    try:
        found = render(Prompt(TEMPLATES[name], TOKENS), messages)
    except NudgeError:
        return
    assert found == wanted


@pytest.mark.parametrize("text", ["", "The answer is ", "It is\n", "  two", "<|im_end|>", "\U000ffffd"])
def test_the_prompt_ends_with_the_message_to_the_last_blank(text: str) -> None:
    trims = "{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}</>{% endfor %}"
    trims += "{% if add_generation_prompt %}<assistant>{% endif %}"
    found = render(Prompt(trims, {}), begun(text))
    assert found == render(Prompt(trims, {}), SHOTS) + text.lstrip()
    drops = "{% for m in messages if m.role == 'user' %}{{ m.content }}\n{% endfor %}Answer:"
    assert render(Prompt(drops, {}), begun(text)) == render(Prompt(drops, {}), SHOTS) + text


@pytest.mark.parametrize("role", ["base", "nudge"])
def test_a_model_alone_goes_on_behind_these_ids(lm: NudgedLM, role: Any) -> None:
    text = "the cat sat on"
    ids = lm.prompt(role, SHOTS).encode(text)
    assert lm.prompt(role, begun(text)).ids == ids
    options: dict[str, Any] = {"mode": role, "max_new_tokens": 16}
    assert lm.generate(begun(text), **options).text == lm.generate(RawPrompt(ids=ids), **options).text


@pytest.mark.parametrize("mode", ["nudged", "ensemble"])
def test_models_together_go_on_too(lm: NudgedLM, mode: Any) -> None:
    answer = lm.generate(begun("the cat sat on"), mode=mode, max_new_tokens=16)
    assert answer.text
    assert answer.text != lm.generate(SHOTS, mode=mode, max_new_tokens=16).text


@pytest.mark.parametrize("mode", ["nudged", "base", "nudge"])
def test_the_server_goes_on_too(mode: str) -> None:
    messages = begun("Well, ")
    with NudgedLM.load(WORD, threads=1) as lm, running(lm) as server:
        found = server.chat(messages=messages, nudge={"mode": mode}).json()
        wanted = lm.generate(messages, mode=mode, max_new_tokens=16, control_tokens="escape")  # type: ignore[arg-type]
    assert found["model"].startswith(MODEL)
    assert found["choices"][0]["message"]["content"] == wanted.text
