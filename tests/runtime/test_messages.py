"""What templates see of a conversation."""

from __future__ import annotations

import pytest
from pairs import Pair

from nudge_onnx import NudgedLM
from nudge_onnx.errors import NudgeError
from nudge_onnx.runtime.text.prompt import as_messages

USER, OTHER = {"role": "user", "content": "hi"}, {"role": "user", "content": "so"}
ASSISTANT = {"role": "assistant", "content": "yes"}


def system(text: str) -> dict[str, str]:
    return {"role": "system", "content": text}


def test_messages_stay_in_their_order_with_every_system_message() -> None:
    for messages in (
        [system("a"), system("b"), USER],
        [USER, ASSISTANT, system("a"), OTHER],
        [USER, system("")],
        [system(""), USER],
    ):
        assert as_messages(messages, "the caller's") == messages


def test_a_system_prompt_comes_first_where_messages_hold_none() -> None:
    assert as_messages("hi", "the caller's") == [system("the caller's"), USER]
    assert as_messages([USER, ASSISTANT, OTHER], "the bundle's") == [
        system("the bundle's"),
        USER,
        ASSISTANT,
        OTHER,
    ]
    assert as_messages("hi") == [USER]


def test_an_empty_system_prompt_that_is_given_is_a_message() -> None:
    assert as_messages("hi", "") == [system(""), USER]


@pytest.mark.parametrize("broken", ["a\ud800b", "caf\udce9", "\udfff"])
def test_text_that_is_no_unicode_is_named(broken: str) -> None:
    for prompt, system_prompt, name in (
        (broken, None, "the prompt"),
        ([USER, {"role": "assistant", "content": broken}, OTHER], None, "message 2"),
        ("hi", broken, "the system prompt"),
    ):
        with pytest.raises(NudgeError, match=rf"^{name} is not Unicode text: character \d is '\\ud") as caught:
            as_messages(prompt, system_prompt)
        assert str(caught.value).isascii()


@pytest.mark.parametrize("prompt", [None, 5, b"hi", {"role": "user", "content": "hi"}, [], [system("a")], ["hi"]])
def test_what_is_no_conversation_is_refused(prompt: object) -> None:
    with pytest.raises(NudgeError):
        as_messages(prompt)  # type: ignore[arg-type]


def test_a_system_prompt_of_another_type_is_refused() -> None:
    with pytest.raises(NudgeError, match="system_prompt must be a text or None, not 5"):
        as_messages("hi", 5)  # type: ignore[arg-type]


def test_a_bad_text_does_not_harm_the_model(tiny_word_pair: Pair) -> None:
    with NudgedLM.load(tiny_word_pair.bundle) as lm:
        before = lm.generate("the cat", max_new_tokens=8).text
        for options in ({"prompt": "caf\udce9"}, {"prompt": "the cat", "system_prompt": "\ud800"}):
            with pytest.raises(NudgeError, match="not Unicode"):
                lm.generate(**options)  # type: ignore[arg-type]
        assert lm.generate("the cat", max_new_tokens=8).text == before
        # A conversation of two system messages is read as it stands.
        messages = [system("a man"), {"role": "user", "content": "the cat"}, system("ran")]
        assert [message["content"] for message in as_messages(messages)] == ["a man", "the cat", "ran"]
        assert lm.generate(messages, max_new_tokens=4).text
