"""A headless Chromium."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

from tests.node.install import chromium

__all__ = ["launched"]


@contextmanager
def launched() -> Iterator[Browser]:
    """A browser, until the context ends."""
    program, libraries = chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program,
            # Without a sandbox it runs as root and in a container, too; it opens one page, which is ours.
            args=["--no-sandbox", "--disable-gpu", "--headless=shell"],
            env={**os.environ, "LD_LIBRARY_PATH": str(libraries)},
        )
        yield browser
        browser.close()
