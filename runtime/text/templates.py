"""Prompt templates, rendered in a sandbox that bounds what they reach, how long they run and how much they make."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from jinja2 import Template, TemplateError, nodes, pass_context
from jinja2.compiler import CodeGenerator, Frame
from jinja2.runtime import Context, markup_join, str_join
from jinja2.sandbox import ImmutableSandboxedEnvironment

from nudge_onnx.bundle import Prompt
from nudge_onnx.errors import BundleError
from nudge_onnx.templates import DIALECT

from .template_limits import HeldNamespace, Meter, TemplateLimitError, formatted, growth, power, product

__all__ = ["Message", "render", "unused_characters"]

Message = Mapping[str, str]
"""`{"role": "system" | "user" | "assistant", "content": ...}`."""

_MOST_OF_A_REASON = 200
_PRIVATE = range(0xF0000, 0xFFFFE)
_LONGEST_TEMPLATE = 200_000  # Jinja reads so much in two seconds or so; real ones have 30,000 at most


def render(prompt: Prompt, messages: Sequence[Message]) -> str:
    """The prompt's text, as transformers' `apply_chat_template` makes it of messages alone.

    Behind the last message the assistant's turn begins. If that message is the assistant's, its turn goes on: the text
    ends with its content, to the last blank.
    Templates see messages and special tokens only; `tools` and `documents` are None. Raises `BundleError` if the
    template fails, rejects the messages, or computes more than a prompt needs.
    """
    if messages[-1]["role"] != "assistant":
        return _rendered(prompt, messages, begins=True)
    # Found again behind whatever the template makes of the content; no blank, so that nothing before it is trimmed.
    contents = (message["content"] for message in messages)
    mark = next(unused_characters("".join((prompt.template, *prompt.tokens.values(), *contents))))
    *before, last = messages
    text = _rendered(prompt, [*before, {**last, "content": last["content"] + mark}], begins=False)
    if mark in text:
        return text[: text.rindex(mark)].replace(mark, "")
    return _rendered(prompt, before, begins=True) + last["content"]


def unused_characters(text: str) -> Iterator[str]:
    """Characters for private use that a text does not have."""
    taken = set(text)
    return (chr(code) for code in _PRIVATE if chr(code) not in taken)


def _rendered(prompt: Prompt, messages: Sequence[Message], *, begins: bool) -> str:
    conversation = sum(len(message["content"]) for message in messages)
    running = _meter.set(Meter(conversation))
    try:
        if len(prompt.template) > _LONGEST_TEMPLATE:
            raise TemplateLimitError(f"it is longer than {_LONGEST_TEMPLATE:,} characters")
        text = _compile(prompt.template).render(
            messages=[dict(message) for message in messages],
            tools=None,
            documents=None,
            add_generation_prompt=begins,
            **prompt.tokens,
        )
        text.encode()
    # A template may raise whatever Python does: it divides by zero, recurses, formats with too few arguments.
    except Exception as error:
        raise BundleError(f"the prompt template refused the conversation: {_reason(error)}") from None
    finally:
        _meter.reset(running)
    return text


_meter: ContextVar[Meter] = ContextVar("meter")


def _reason(error: Exception) -> str:
    """What an exception says, as one printable line."""
    known = {
        RecursionError: "it calls itself without end",
        MemoryError: "it takes more memory than there is",
        UnicodeEncodeError: "it writes half of a surrogate pair",
    }
    if type(error) in known:
        return known[type(error)]
    words = "".join(char if char.isprintable() else " " for char in str(error)[:10_000]).split()
    text = " ".join(words)
    short = text if len(text) <= _MOST_OF_A_REASON else text[:_MOST_OF_A_REASON] + "..."
    if not short:
        return "it gives no reason" if isinstance(error, TemplateError) else type(error).__name__
    return short if isinstance(error, TemplateError | TemplateLimitError) else f"{type(error).__name__}: {short}"


@functools.lru_cache(maxsize=16)
def _compile(template: str) -> Template:
    return _environment().from_string(template)


@functools.lru_cache(maxsize=1)
def _environment() -> _Environment:
    return _Environment()


class _Code(CodeGenerator):
    """Code that counts: each block and comparison is a step, and lists, tuples and joined texts are weighed."""

    def blockvisit(self, nodes_: Iterable[nodes.Node], frame: Frame) -> None:
        body = list(nodes_)
        data = (part for node in body if isinstance(node, nodes.Output) for part in node.nodes)
        written = sum(len(part.data) for part in data if isinstance(part, nodes.TemplateData))
        self.writeline(f"environment.step({written})")
        super().blockvisit(body, frame)

    def visit_Compare(self, node: nodes.Compare, frame: Frame) -> None:  # noqa: N802  (Jinja's names)
        self.write("(environment.step() or ")
        super().visit_Compare(node, frame)
        self.write(")")

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:  # noqa: N802
        self.write("environment.joined(context, (")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")

    def visit_List(self, node: nodes.List, frame: Frame) -> None:  # noqa: N802
        self.write("environment.weighed(")
        super().visit_List(node, frame)
        self.write(")")

    def visit_Dict(self, node: nodes.Dict, frame: Frame) -> None:  # noqa: N802
        self.write("environment.weighed(")
        super().visit_Dict(node, frame)
        self.write(")")

    def visit_Tuple(self, node: nodes.Tuple, frame: Frame) -> None:  # noqa: N802
        read = node.ctx == "load"
        self.write("environment.weighed(" if read else "")
        super().visit_Tuple(node, frame)
        self.write(")" if read else "")


class _Environment(ImmutableSandboxedEnvironment):
    """Jinja as transformers sets it up, with a `Meter` behind everything that computes."""

    code_generator_class = _Code
    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        # Nothing is computed ahead, where nobody counts it.
        super().__init__(**DIALECT, optimized=False, finalize=_written)
        self.filters["tojson"] = _to_json
        self.filters = {name: _counted_filter(name, function) for name, function in self.filters.items()}
        tests: Any = self.tests
        self.tests = {name: _counted(function) for name, function in tests.items()}
        del self.globals["lipsum"]
        self.globals["namespace"] = HeldNamespace
        self.globals["raise_exception"] = _refuse
        self.globals["strftime_now"] = lambda pattern: datetime.now(tz=UTC).strftime(pattern)

    def step(self, written: int = 0) -> None:
        """Count a step and the text of a block."""
        _meter.get().step(written)

    def weighed(self, value: Any) -> Any:
        """A list, tuple or dictionary that the template spells."""
        return _meter.get().made(value, anew=False)

    def joined(self, context: Context, parts: tuple[Any, ...]) -> str:
        """What `~` makes."""
        meter = _meter.get()
        meter.spend(meter.weigh(parts))
        text: str = markup_join(parts) if context.eval_ctx.autoescape else str_join(parts)
        return text

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """`left + right`, `*`, `**` and `%`, if the result is no larger than what is left."""
        meter = _meter.get()
        if operator == "+" and not isinstance(left, int | float):
            meter.check(meter.weigh(left) + meter.weigh(right))
        elif operator == "*":
            meter.check(product(left, right, meter.left))
        elif operator == "**":
            meter.check(power(left, right))
        elif operator == "%":
            meter.check(formatted(left, right, meter.left))
        return meter.made(super().call_binop(context, operator, left, right), anew=False)

    def call(self, context: Context, called: Any, /, *arguments: Any, **named: Any) -> Any:
        """A function, macro or method, if what it makes is no larger than what is left."""
        meter = _meter.get()
        meter.step()
        meter.check(sum(meter.weigh(value) for value in (*arguments, *named.values())))
        # The sandbox wraps `format`; what it wraps knows its text.
        method = getattr(called, "__wrapped__", called)
        owner, name = getattr(method, "__self__", None), getattr(method, "__name__", "")
        if isinstance(owner, str | bytes | int):
            arguments = tuple(_settled(value) for value in arguments)
            meter.check(growth(name, owner, arguments, named, meter.left))
        with meter:
            result = super().call(context, called, *arguments, **named)
        return meter.made(result, anew=isinstance(owner, str | bytes))


@pass_context
def _written(_context: Context, value: Any) -> Any:
    """What stands in `{{ }}`, before it becomes text. With a context, Jinja leaves constants to this as well."""
    meter = _meter.get()
    meter.spend(meter.weigh(value))
    return value


def _counted_filter(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that counts, wherever Jinja calls it: filters such as `map` call others."""
    first = int(hasattr(function, "jinja_pass_arg"))

    @functools.wraps(function)
    def counted(*arguments: Any, **named: Any) -> Any:
        meter = _meter.get()
        meter.step()
        before, value, given = arguments[:first], arguments[first], arguments[first + 1 :]
        if name == "join":
            value = _settled(value)
        meter.check(sum(meter.weigh(part) for part in (value, *given, *named.values())))
        meter.check(growth(name, value, given, named, meter.left))
        return meter.made(function(*before, value, *given, **named), anew=False)

    return counted


def _counted(function: Callable[..., Any]) -> Callable[..., Any]:
    """A test that counts as a step."""

    @functools.wraps(function)
    def counted(*arguments: Any, **named: Any) -> Any:
        _meter.get().step()
        return function(*arguments, **named)

    return counted


def _settled(value: Any) -> Any:
    """A list instead of an iterator, whose length nobody knows."""
    return list(value) if isinstance(value, Iterator) else value


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as transformers writes it: Jinja's own would escape for HTML, write ASCII, and sort."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _refuse(message: Any = "") -> Any:
    raise TemplateError(str(message))
