"""How each model is prompted: plain text for a base model, its own chat template for a nudging model."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from nudge_onnx.bundle import Prompt
from nudge_onnx.errors import ExportError, SourceError

from ..support.faults import one_line

__all__ = ["BASE_TEMPLATE", "base_prompt", "chat_prompt", "looks_aligned", "read_template"]

BASE_TEMPLATE = (
    "{% for message in messages if message.content or message.role != 'system' %}{{ message.content }}\n{% endfor %}"
)
"""System prompt, newline, instruction, newline: the paper's prompt for base models. The system prompt is the first
message; an empty one leaves no line."""

_ALIGNED_NAME = re.compile(r"(?:^|[^a-z])(?:instruct|chat|it|sft|dpo|rlhf|assistant)(?:[^a-z]|$)", re.IGNORECASE)
_ALIGNED_TEMPLATE = re.compile(r"instruct|chat(?!ml)", re.IGNORECASE)


def base_prompt(template: str = BASE_TEMPLATE) -> Prompt:
    """The prompt of a base model; its tokenizer puts the BOS token before it."""
    return Prompt(template=template, add_bos=True)


def chat_prompt(tokenizer: Any, name: str, *, rows: int, chosen: str | None = None) -> Prompt:
    """A nudging model's chat template, with the special tokens that it may name.

    It is its own, or what is `chosen`: the name of one of several, a file, or the text of another. The template writes
    its own BOS token where there is one. Raises `SourceError` where there is no template, or none to prefer, and where
    it writes tokens that the model, with so many rows, does not know.
    """
    template = _own_template(tokenizer, name) if chosen is None else _chosen_template(tokenizer, chosen)
    _check(template, name)
    _check_rows(tokenizer, template, rows, name)
    tokens = {key: str(token) for key, token in tokenizer.special_tokens_map.items() if isinstance(token, str)}
    return Prompt(template=template, tokens=tokens, add_bos=False)


def _own_template(tokenizer: Any, name: str) -> str:
    named = tokenizer.chat_template
    if isinstance(named, dict) and "default" not in named:
        raise SourceError(
            f"{name} has several chat templates and none by default; choose one with --chat-template: "
            f"{', '.join(sorted(named)) or 'a file'}"
        )
    try:
        return str(tokenizer.get_chat_template())
    except ValueError:
        raise SourceError(
            f"{name} has no chat template, so it is hardly a nudging model; give an instruct or chat model to --nudge, "
            "or its template to --chat-template"
        ) from None


def _chosen_template(tokenizer: Any, chosen: str) -> str:
    named = tokenizer.chat_template
    if isinstance(named, dict) and chosen in named:
        return str(named[chosen])
    return read_template(chosen, "--chat-template")


def _check_rows(tokenizer: Any, template: str, rows: int, name: str) -> None:
    asked = [{"role": "user", "content": "Why?"}]
    try:
        ids = tokenizer.apply_chat_template(asked, chat_template=template, add_generation_prompt=True, tokenize=True)
    except Exception:  # a template may ask for more than one message, and says so to those who use it
        return
    if unknown := next((number for number in ids if number >= rows), None):
        raise SourceError(
            f"{name}: its chat template writes {tokenizer.convert_ids_to_tokens(unknown)!r}, "
            f"for which its model of {rows} tokens has no row; give the checkpoint that the template was made for"
        )


def looks_aligned(tokenizer: Any, name: str) -> bool:
    """Whether a base model seems to be an instruct model: it has a chat template, and name or template says so.

    A template says so too where it ends a turn with what ends a text: pretrained models that come with the template
    of their family keep an end of text of their own. `name` is all that a checkpoint is called, by itself as well.
    """
    template = str(tokenizer.chat_template or "")
    if not template:
        return False
    ends_turns = bool(tokenizer.eos_token) and str(tokenizer.eos_token) in template
    return ends_turns or bool(_ALIGNED_NAME.search(name) or _ALIGNED_TEMPLATE.search(template))


def read_template(file_or_text: str, option: str = "--base-template") -> str:
    """The Jinja template that a file holds or that is given itself to `option`.

    Raises `ExportError` if there is no such file, or it cannot be read, or the template does not parse.
    """
    # A template with a newline or a brace is no file name, and some systems refuse to look for one.
    looks_like_text = "{" in file_or_text or "\n" in file_or_text
    if not looks_like_text and Path(file_or_text).is_file():
        try:
            template = Path(file_or_text).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ExportError(f"{option} {file_or_text}: it cannot be read ({one_line(error)})") from None
    elif looks_like_text:
        template = file_or_text
    else:
        raise ExportError(f"{option} {file_or_text}: no such file, and no Jinja template (it names no message)")
    _check(template, option)
    return template


def _check(template: str, name: str) -> None:
    from jinja2 import TemplateSyntaxError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    from nudge_onnx.templates import DIALECT

    try:
        ImmutableSandboxedEnvironment(**DIALECT).parse(template)
    except TemplateSyntaxError as error:
        raise ExportError(f"{name}: the prompt template is not valid Jinja ({error.message})") from None
