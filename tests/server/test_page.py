"""The page in a browser: typed, streamed, stopped, reloaded, and usable without a mouse or without eyes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from nudge_onnx import NudgedLM
from tests.node.install import installed

from .browser import launched
from .running import MODEL, Running, running

PROMPT = "Tell me about rivers."


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as found:
        yield found


@pytest.fixture
def page(browser: Browser, server: Running) -> Iterator[Page]:
    yield from opened(browser, server)


def opened(browser: Browser, server: Running, **options: Any) -> Iterator[Page]:
    context = browser.new_context(**options)
    page = context.new_page()
    page.set_default_timeout(10_000)
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if "Content Security" in message.text else None)
    page.goto(server.url)
    expect(page.locator("#model")).to_contain_text("nudged by")
    yield page
    context.close()
    assert problems == []


def ask(page: Page, text: str = PROMPT, tokens: int = 24) -> None:
    page.fill("#tokens", str(tokens))
    page.fill("#prompt", text)
    page.press("#prompt", "Enter")
    expect(page.locator("#stop")).to_be_disabled()
    expect(page.locator(".turn").last.locator(".figures").first).to_contain_text("ended")


def expected(server: Running, tokens: int = 24, **options: Any) -> Any:
    messages = [{"role": "user", "content": PROMPT}]
    return server.lm.generate(messages, max_new_tokens=tokens, control_tokens="escape", **options)


def test_an_answer_says_who_wrote_what(page: Page, server: Running) -> None:
    gamma = float(page.input_value("#gamma"))
    assert gamma == server.lm.bundle.manifest.defaults.gamma
    ask(page)
    answer = expected(server, gamma=gamma)
    pieces = page.locator(".answer .piece")
    shown = [piece for piece in answer.pieces if piece.text]
    assert pieces.count() == len(shown)
    assert page.locator(".text").evaluate("e => e.textContent") == answer.text
    nudged = page.locator(".answer .nudge")
    assert nudged.count() == sum(piece.source == "nudge" for piece in shown)
    style = nudged.first.evaluate(
        "e => [getComputedStyle(e).textDecorationLine, getComputedStyle(e).color, "
        "getComputedStyle(e.parentElement).color]"
    )
    assert style[0] == "underline"
    assert style[1] != style[2]
    expect(page.locator(".figures")).to_contain_text(f"{100 * answer.nudging_ratio:.0f} % by the nudging model")
    expect(page.locator(".figures")).to_contain_text("tokens/s")
    curve = page.locator(".strip .curve").get_attribute("points") or ""
    assert len(curve.split()) == sum(value is not None for piece in answer.pieces for value in piece.top1)
    at = page.locator(".strip .gamma").get_attribute("y1") or ""
    assert float(at) == pytest.approx(100 - 100 * gamma)


def test_pointer_and_keys_tell_of_a_word(page: Page) -> None:
    ask(page)
    first = page.locator(".piece").first
    first.hover()
    expect(page.locator("#detail")).to_contain_text(re.compile("model, (top-1 probability 0\\.|spelt anew)"))
    first.focus()
    page.keyboard.press("ArrowRight")
    second = page.locator(".piece").nth(1)
    expect(second).to_be_focused()
    expect(page.locator("#detail")).to_contain_text((second.text_content() or "").strip())
    page.keyboard.press("End")
    expect(page.locator(".piece").last).to_be_focused()
    assert page.locator(".piece[tabindex='0']").count() == 1


def test_gamma_is_sent(page: Page, server: Running) -> None:
    page.locator("#gamma").fill("1")
    expect(page.locator("#gamma-value")).to_have_text("1.00")
    ask(page)
    assert page.locator(".text").evaluate("e => e.textContent") == expected(server, gamma=1.0).text


def test_three_answers_side_by_side(page: Page, server: Running) -> None:
    page.check("#compare")
    ask(page)
    expect(page.locator(".figures").nth(2)).to_contain_text("ended")
    texts = page.locator(".text").evaluate_all("all => all.map(e => e.textContent)")
    assert texts == [expected(server, mode=mode).text for mode in ("nudged", "base", "nudge")]


def test_an_answer_can_be_stopped(page: Page, server: Running) -> None:
    page.fill("#tokens", "400")
    page.fill("#prompt", PROMPT)
    page.click("#send")
    page.wait_for_selector(".piece")
    page.click("#stop", force=True)
    expect(page.locator("#stop")).to_be_disabled()
    server.wait_until_idle()
    expect(page.locator("#error")).to_be_hidden()


def test_a_reload_keeps_the_conversation_and_it_goes_on(page: Page) -> None:
    ask(page)
    before = page.locator(".text").all_text_contents()
    page.reload()
    expect(page.locator("#model")).to_contain_text("nudged by")
    assert page.locator(".text").all_text_contents() == before
    expect(page.locator(".asked")).to_have_text(PROMPT)
    sent: list[Any] = []
    page.on("request", lambda request: sent.append(request.post_data_json) if request.method == "POST" else None)
    ask(page, "And then?")
    assert [message["content"] for message in sent[0]["messages"]] == [PROMPT, before[0], "And then?"]
    page.click("#reset")
    assert page.locator(".turn").count() == 0
    page.reload()
    assert page.locator(".turn").count() == 0


def test_an_error_is_shown_and_the_message_is_not_lost(page: Page) -> None:
    text = "many words " * 600
    page.fill("#prompt", text)
    page.click("#send")
    expect(page.locator("#error")).to_contain_text("shorten the prompt")
    assert page.input_value("#prompt").strip() == text.strip()
    assert page.locator(".turn").count() == 0


def test_what_models_write_stays_text(page: Page) -> None:
    ask(page, "<img src=x onerror=alert(1)><script>alert(2)</script>")
    assert page.locator(".turn img, .turn script").count() == 0
    expect(page.locator(".asked")).to_contain_text("<script>")


def test_a_key_is_asked_for(browser: Browser, lm: NudgedLM) -> None:
    key = "a-key-of-some-length"
    with running(lm, keys=(key,)) as server:
        context = browser.new_context()
        page = context.new_page()
        page.goto(server.url)
        expect(page.locator("#model")).to_have_text("needs a key")
        page.fill("#key", key)
        page.press("#key", "Enter")
        expect(page.locator("#model")).to_contain_text("nudged by")
        expect(page.locator("#key-form")).to_be_hidden()
        ask(page)
        context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1200])
def test_axe_finds_nothing_and_nothing_is_cut(browser: Browser, server: Running, scheme: Any, width: int) -> None:
    axe = (installed() / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")
    # The policy of the page lets no foreign script in, so the browser is told to.
    options = {"color_scheme": scheme, "viewport": {"width": width, "height": 800}, "bypass_csp": True}
    for page in opened(browser, server, **options):
        page.check("#compare")
        ask(page)
        page.evaluate("document.getElementById('error').hidden = false")
        page.locator("#error").evaluate("e => e.textContent = 'An error.'")
        page.evaluate(axe)
        found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
        assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found["violations"]] == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_nothing_comes_from_elsewhere(browser: Browser, server: Running) -> None:
    asked: list[str] = []
    for page in opened(browser, server):
        page.on("request", lambda request: asked.append(request.url))
        page.reload()
        ask(page)
        stored = page.evaluate("JSON.stringify(sessionStorage)")
    assert asked
    assert all(url.startswith(server.url) or url.startswith("data:") for url in asked)
    assert MODEL not in json.loads(stored)
