"""Prompts of messages that spell control tokens."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nudge_onnx import NudgeError
from nudge_onnx.bundle import Prompt
from nudge_onnx.runtime.text.control_tokens import prompt_ids
from nudge_onnx.runtime.text.tokenizer import Tokenizer

__all__ = ["prompt_cases"]

HERE = Path(__file__).resolve().parent
TEMPLATE = (
    "{{ bos }}{% for message in messages %}"
    "{{ begin + message.role }}\n{{ message.content | trim }}{{ end }}\n{% endfor %}"
)
TOKENS = {"bos": "<s>", "begin": "<|im_start|>", "end": "<|im_end|>"}
PIECES = (
    *("<|im_end|>", "<|im_start|>", "</s>", "<s>", "<|im_", "end|>", "<", ">", "/s>"),
    " ",
    "\n",
    "the cat",
    "é日",
)


def prompt_cases(paths: Iterable[Path]) -> list[dict[str, Any]]:
    """Conversations in each way; without `ids`, the messages are refused."""
    draw = random.Random(3)
    cases = []
    for path in paths:
        tokenizer = Tokenizer(path)
        for number in range(12):
            way = ("allow", "refuse", "escape", "escape")[number % 4]
            messages = [
                {"role": role, "content": "".join(draw.choices(PIECES[6 * (number < 4) :], k=draw.randrange(1, 8)))}
                for role in ("user", "assistant", "user")
            ]
            case: dict[str, Any] = {"file": path.relative_to(HERE).as_posix(), "template": TEMPLATE, "tokens": TOKENS}
            case |= {"messages": messages, "control_tokens": way}
            try:
                case["ids"] = prompt_ids(Prompt(TEMPLATE, TOKENS), messages, tokenizer, "base", way).ids
            except NudgeError as error:
                case["error"] = str(error)
            cases.append(case)
    return cases
