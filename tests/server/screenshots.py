"""Takes the pictures of the page that README and docs show: `python -m tests.server.screenshots BUNDLE`."""

from __future__ import annotations

import sys
from pathlib import Path

from nudge_onnx import NudgedLM

from .browser import launched
from .running import running

IMAGES = Path(__file__).parents[2] / "docs" / "images"
PROMPT = "What are three good reasons to learn a second language?"


def take(bundle: str) -> None:
    """One answer in the dark on a phone, and three side by side."""
    IMAGES.mkdir(exist_ok=True)
    with NudgedLM.load(bundle) as lm, running(lm) as server, launched() as browser:
        for name, scheme, size, compare in (
            ("page-compare", "light", (1000, 700), True),
            ("page-phone", "dark", (390, 780), False),
        ):
            options = {"color_scheme": scheme, "viewport": {"width": size[0], "height": size[1]}}
            page = browser.new_page(**options)  # type: ignore[arg-type]
            page.goto(server.url)
            page.set_checked("#compare", compare)
            page.fill("#tokens", "96")
            page.fill("#prompt", PROMPT)
            page.click("#send")
            page.wait_for_selector("#stop:disabled")
            page.locator(".piece.nudge").nth(1).hover()
            page.screenshot(path=IMAGES / f"{name}.png", full_page=True)
            page.close()


if __name__ == "__main__":
    take(*sys.argv[1:])
