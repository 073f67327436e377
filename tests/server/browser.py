"""A headless Chromium."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.node.install import chromium

__all__ = ["launched"]

_NAMES = ("chromium", "chromium-browser", "google-chrome")


@contextmanager
def launched() -> Iterator[Browser]:
    """A browser, until the context ends."""
    program, libraries = _program()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program,
            # Without a sandbox it runs as root and in a container, too; it opens one page, which is ours.
            args=["--no-sandbox", "--disable-gpu", "--headless=shell"],
            env={**os.environ, **({"LD_LIBRARY_PATH": str(libraries)} if libraries else {})},
        )
        yield browser
        browser.close()


def _program() -> tuple[Path, Path | None]:
    """The one that npm brings, which is for Linux on x86-64; elsewhere one that is installed."""
    if platform.system() == "Linux" and platform.machine() == "x86_64":
        return chromium()
    found = next((path for name in _NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("npm has no Chromium for this processor, and none is installed")
    return Path(found), None
