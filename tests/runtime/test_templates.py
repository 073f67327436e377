"""Prompt templates: what they write is what transformers writes, and whatever they do is bounded and said in one line."""

# ruff: noqa: E501  (templates are what they are)
from __future__ import annotations

import itertools
import sys
import threading
import time
from typing import Any

import pytest
from conformance.templates import TEMPLATES
from transformers.utils.chat_template_utils import render_jinja_template

from nudge_onnx.bundle import Prompt
from nudge_onnx.errors import BundleError
from nudge_onnx.runtime.text.templates import render

TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
USER, MORE = {"role": "user", "content": "Why <is> it & 'so'?\n"}, {"role": "user", "content": ' 日本 "é" '}
ASSISTANT = {"role": "assistant", "content": "<think>\nhm\n</think>\n\nBecause."}
SYSTEM, OTHER_SYSTEM = {"role": "system", "content": "Be brief."}, {"role": "system", "content": ""}
CONVERSATIONS = [
    [USER],
    [SYSTEM, USER],
    [OTHER_SYSTEM, USER],
    [SYSTEM, USER, ASSISTANT, MORE],
    [USER, ASSISTANT, SYSTEM, MORE],
    [SYSTEM, OTHER_SYSTEM, USER, SYSTEM],
    [USER, MORE],
    [ASSISTANT, USER],
]
# One construct each, as templates on the hub use them.
CONSTRUCTS = {
    "generation": (
        "{% for m in messages %}\n{% if m.role == 'assistant' %}\n{% generation %}\n{{ m.content }}\n{% endgeneration %}\n"
        "{% else %}\n  {%- generation -%} {{ m.content }} {%- endgeneration %}\n\n{% endif %}\n{% endfor %}\n"
    ),
    "sets within generation": "{% set x = 1 %}{% generation %}{% set x = 2 %}{{ x }}{% endgeneration %}{{ x }}",
    "json": "{{ messages | tojson }}{{ messages[0] | tojson(indent=2) }}{{ messages[-1].content | tojson(ensure_ascii=True) }}",
    "json's options": "{{ {'b': 1, 'a': [none, 2.5]} | tojson(separators=(',', ':'), sort_keys=True) }}{{ messages|tojson(indent=4) }}",
    "no tools": "{{ tools is none }}{{ documents is none }}{{ tools is defined }}{% if tools %}x{% endif %}{{ tools }}",
    "template's own system text": (
        "{% if messages[0].role == 'system' %}{{ messages[0].content }}{% else %}You help.{% endif %}|"
        "{% for m in messages %}{{ m.role }}:{{ m.content }}\n{% endfor %}"
    ),
    "macros": (
        "{% macro turn(m, ns=none) %}<{{ m.role }}>{{ caller() if caller }}{{ varargs }}{% endmacro %}"
        "{% for m in messages %}{{ turn(m, none, 1, [2]) }}{% call turn(m) %}in{% endcall %}{% endfor %}"
    ),
    "namespaces": (
        "{% set ns = namespace(found=false, system='') %}{% for m in messages %}{% if m.role == 'system' %}"
        "{% set ns.found = true %}{% set ns.system = ns.system ~ m.content %}{% endif %}{% endfor %}{{ ns.found, ns.system }}"
    ),
    "filters": (
        "{{ messages | map(attribute='role') | join(', ') }}{{ messages | selectattr('role', 'equalto', 'user') | list | length }}"
        "{{ messages | rejectattr('role', 'in', ['user']) | map(attribute='content') | map('upper') | list }}"
        "{{ messages[0].content | replace('i', 'I') | indent(2, true) }}{{ messages | length }}{{ messages | last | items | list }}"
        "{{ messages | groupby('role') | map('first') | list }}{{ [3, 1] | sort }}{{ range(7) | batch(3, 0) | list }}"
    ),
    "methods": (
        "{{ messages[0].content.strip().split(' ') }}{{ '-'.join(['a', 'b']) }}{{ '{:>5}|{n}'.format('x', n=2) }}{{ '%s=%03d' % ('a', 7) }}"
        "{{ messages[0].items() | list }}{{ 'ab'.replace('b', 'c').center(9, '*') }}{{ 'x'.ljust(4) ~ 1 ~ none ~ [1] }}{{ ('%s,' * 400) | format(*range(400)) }}"
    ),
    "operators": "{{ [1] + [2] * 2 }}{{ 2 ** 10 }}{{ 'a' * 3 + 'b' }}{{ 7 % 3 }}{{ (1, 'a') == (1, 'a') }}{{ 1 < 2 < 3 }}{{ -2 ** 2 }}",
    "loops": (
        "{% for m in messages recursive %}{{ loop.index }}{{ (loop.previtem or m).role }}{{ loop.cycle('a', 'b') }}"
        "{% if loop.depth < 2 and loop.first %}{{ loop(messages[1:]) }}{% endif %}{% else %}none{% endfor %}"
        "{% for k, v in messages[0].items() if k != 'x' %}{{ k }}{{ v }}{% endfor %}{% for i in range(3) %}{% continue %}{% endfor %}"
    ),
    "blocks": (
        "{% set text %}\n a {{ messages|length }}\n{% endset %}{{ text | trim }}{% filter upper %}\n x\n{% endfilter %}"
        "{% with y = 2 %}{{ y }}{% endwith %}{% block b %}{{ messages[0].role }}{% endblock %}{{ self.b() }}{% raw %}{{ }}{% endraw %}"
    ),
}


def theirs(template: str, messages: list[dict[str, str]]) -> str | None:
    """transformers' text, or None where it fails."""
    try:
        rendered, _ = render_jinja_template([messages], chat_template=template, add_generation_prompt=True, **TOKENS)
    except Exception:
        return None
    text: str = rendered[0]
    return text


def ours(template: str, messages: list[dict[str, str]]) -> str | None:
    try:
        return render(Prompt(template, TOKENS), messages)
    except BundleError:
        return None


# transformers would really repeat, recurse and run.
@pytest.mark.parametrize("name", [name for name in (*TEMPLATES, *CONSTRUCTS) if not name.startswith("refuses to")])
def test_a_template_writes_what_transformers_makes_it_write(name: str) -> None:
    template = {**TEMPLATES, **CONSTRUCTS}[name]
    for messages in CONVERSATIONS:
        assert ours(template, messages) == theirs(template, messages)
    if name in CONSTRUCTS:
        assert all(ours(template, messages) for messages in CONVERSATIONS)


ENDLESS = "{% for a in range(90000) %}{% for b in range(90000) %}BODY{% endfor %}{% endfor %}"
GROWS = "{% set n = namespace(x='ab', y=[1], z='ab') %}{% for _ in range(9999) %}BODY{% endfor %}"
BAD = {
    "raises nothing": ("{{ raise_exception('') }}", "it gives no reason"),
    "raises lines": ("{{ raise_exception('Roles\n\n must\talternate') }}", "Roles must alternate"),
    "raises a number": ("{{ raise_exception(5) }}", "5$"),
    "raises without a reason": ("{{ raise_exception() }}", "it gives no reason"),
    "raises half a pair": ("{{ raise_exception('a\\ud800\\x1b[31m') }}", r"a \[31m"),
    "raises very much": ("{{ raise_exception('x' * 100000) }}", r"x\.\.\.$"),
    "divides by zero": ("{{ 1 / 0 }}", "ZeroDivisionError"),
    "formats nothing": ("{{ '{}'.format() }}", "IndexError"),
    "formats no key": ("{{ '{a}'.format() }}", "KeyError"),
    "calls itself": ("{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}", "itself"),
    "shows itself": ("{% block a %}{{ self.a() }}{% endblock %}", "itself"),
    "a huge range": ("{{ range(10**9) | list }}", "Range too big"),
    "no syntax": ("{% for %}", ""),
    "nests too many loops": ("{% for a in 'a' %}" * 30 + "{% endfor %}" * 30, ""),
    "nests parentheses": ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", ""),
    "includes": ("{% include 'x' %}", ""),
    "an unknown filter": ("{{ 1 | nothing }}", "nothing"),
    "changes the conversation": ("{{ messages.append(1) }}", ""),
    "reaches for the class": ("{{ ''.__class__.__mro__ }}", "unsafe"),
    "writes half a pair": ("{{ '\\ud800' }}", "surrogate"),
    "a text times a number": ("{{ 'a' * 10**10 }}", "characters"),
    "a number times a text": ("{{ 10**10 * 'a' }}", "characters"),
    "a list times a number": ("{{ ([1] * 10**10) | length }}", "characters"),
    "a power": ("{{ 10**(10**10) }}", "characters"),
    "a power in a rounding": ("{{ 1.5 | round(10000000000, 'ceil') }}", "characters"),
    "a product": (GROWS.replace("BODY", "{% set n.x = 9 if n.x == 'ab' else n.x * n.x %}"), "characters"),
    "centres": ("{{ 'a'.center(10**10) }}", "characters"),
    "centres by a filter": ("{{ 'a' | center(10**10) }}", "characters"),
    "centres by two filters": ("{{ ['a'] | map('center', 10**10) | list }}", "characters"),
    "fills": ("{{ 'a'.zfill(10**10) }}{{ 'a'.ljust(10**10) }}", "characters"),
    "expands": ("{{ '\t'.expandtabs(10**10) }}", "characters"),
    "bytes of a number": ("{{ (1).to_bytes(10**10, 'big') }}", "characters"),
    "formats with a width": ("{{ '%10000000000d' % 1 }}", "width"),
    "formats with a width as a filter": ("{{ '%10000000000d' | format(1) }}", "width"),
    "formats with a width by argument": ("{{ '%*d' % (10**10, 1) }}", "width"),
    "formats with a precision": ("{{ '%.10000000000f' % 1 }}", "width"),
    "formats in braces": ("{{ '{:>10000000000}'.format(1) }}", "width"),
    "formats in nested braces": ("{{ '{:>{}}'.format(1, 10**10) }}", "width"),
    "formats often": ("{{ ('{0}' * 9999).format('x' * 99999) }}", "characters"),
    "formats a map often": ("{{ ('{a}' * 9999).format_map({'a': 'x' * 99999}) }}", "characters"),
    "formats a key often": ("{{ ('%(a)s' * 9999) % {'a': 'x' * 99999} }}", "characters"),
    "replaces nothing by much": ("{{ ('x' * 99999).replace('', 'x' * 99999) | length }}", "characters"),
    "replaces by a filter": ("{{ ('x' * 99999) | replace('', 'x' * 99999) | length }}", "characters"),
    "joins by much": ("{{ range(99999) | join('x' * 99999) | length }}", "characters"),
    "joins an iterator": ("{{ ('x' * 99999).join(range(99999) | map('string')) | length }}", "characters"),
    "joins much": ("{{ range(99999) | map('replace', '', 'x' * 999) | join | length }}", "characters"),
    "indents": ("{{ ('\n' * 99999) | indent(10**9, true, true) | length }}", "characters"),
    "indents JSON": ("{{ [1] | tojson(indent=10**10) }}", "characters"),
    "translates": ("{{ ('a' * 99999).translate({97: 'x' * 99999}) | length }}", "characters"),
    "slices into many": ("{{ [1] | slice(10**10) | list }}", "characters"),
    "fills a batch": ("{{ [1] | batch(10**10, 0) | list }}", "characters"),
    "wraps with much": ("{{ ('a ' * 99999) | wordwrap(1, true, 'x' * 99999) | length }}", "characters"),
    "lists of lists": (GROWS.replace("BODY", "{% set n.x = [n.x, n.x] %}") + "{{ n.x }}", ""),
    "tuples of tuples": (GROWS.replace("BODY", "{% set n.x = (n.x, n.x) %}") + "{{ n.x in {n.x: 1} }}", ""),
    "dictionaries of dictionaries": (GROWS.replace("BODY", "{% set n.x = {'a': n.x, 'b': n.x} %}"), ""),
    "lists added": (GROWS.replace("BODY", "{% set n.y = n.y + n.y %}"), "characters"),
    "arguments of arguments": ("{% macro f() %}{{ f(varargs, varargs) }}{% endmacro %}{{ f() }}", ""),
    "a namespace in a list": ("{% set n = namespace() %}{% set n.x = [n, n] %}{{ n }}", "namespace"),
    "a namespace in another": ("{% set n = namespace() %}{% set n.x = namespace() %}{{ n }}", "namespace"),
    "a namespace of namespaces": ("{% set n = namespace(x=namespace()) %}", "namespace"),
    "texts joined": (GROWS.replace("BODY", "{% set n.x = n.x ~ n.x %}") + "{{ n.x | length }}", "characters"),
    "texts added": (GROWS.replace("BODY", "{% set n.x = n.x + n.x %}") + "{{ n.x | length }}", "characters"),
    "blocks set": (GROWS.replace("BODY", "{% set x %}{{ n.x }}{{ n.x }}{% endset %}{% set n.x = x %}"), "characters"),
    "many texts": ("{% set n = namespace() %}" + "{% set t = 'x' * 999999 %}" * 99, "characters"),
    "writes much": (ENDLESS.replace("BODY", "x" * 1000), "characters"),
    "writes a text often": ("{% set x = 'x' * 99999 %}" + ENDLESS.replace("BODY", "{{ x }}"), "characters"),
    "is very long": ("x" * 200_001, "longer than 200,000"),
}
SLOW = {
    "loops": ENDLESS.replace("BODY", ""),
    "calls": ENDLESS.replace("{% for b in range(90000) %}BODY{% endfor %}", "{{ range(90000) | map('upper') | list | length }}"),
    "selects": ENDLESS.replace("BODY", "").replace("range(90000) %}{%", "range(90000) if range(9000)|select('none')|list %}{%"),
    "compares": "{% set s = 'a' * 999999 %}{% set t = 'a' * 999999 %}" + ENDLESS.replace("(90000)", "(90000) if s ~ 'b' in t or s + 'b' == t + 'a'", 1),
    "calls itself twice": "{% macro f(n) %}{% if n %}{% set _ = f(n - 1) %}{% set _ = f(n - 1) %}{% endif %}{% endmacro %}{{ f(60) }}",
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_whatever_a_template_does_is_one_line(name: str) -> None:
    template, reason = BAD[name]
    start = time.thread_time()
    with pytest.raises(BundleError, match=r"^the prompt template refused the conversation: .*" + reason) as caught:
        render(Prompt(template, TOKENS), [USER])
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300
    assert time.thread_time() - start < 20


def test_recursion_ends_however_deep_a_program_lets_python_go() -> None:
    template, _ = BAD["calls itself"]
    deepest = sys.getrecursionlimit()
    sys.setrecursionlimit(1_000_000)
    try:
        with pytest.raises(BundleError, match="calls itself without end"):
            render(Prompt(template, TOKENS), [USER])
    finally:
        sys.setrecursionlimit(deepest)


@pytest.mark.parametrize("name", SLOW)
def test_a_template_that_runs_for_long_is_stopped_in_any_thread(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nudge_onnx.runtime.text.template_limits.SECONDS", 0.2)
    said: list[str] = []

    def work() -> None:
        try:
            said.append(render(Prompt(SLOW[name], TOKENS), [USER]))
        except BundleError as error:
            said.append(str(error))

    start = time.monotonic()
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert "computes for more than 0.2 seconds" in said[0] or "characters" in said[0]
    assert time.monotonic() - start < 20


def test_a_long_conversation_is_no_reason_to_refuse() -> None:
    long: list[dict[str, Any]] = [
        {"role": role, "content": "word " * 4000}
        for role in itertools.islice(itertools.cycle(("user", "assistant")), 151)
    ]
    for name in ("plain", "chatml", "gemma", "llama3", "qwen"):
        assert ours(TEMPLATES[name], long) == theirs(TEMPLATES[name], long)
    for name in ("json", "filters", "generation"):
        assert ours(CONSTRUCTS[name], long) == theirs(CONSTRUCTS[name], long)
