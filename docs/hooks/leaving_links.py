"""Links of a page to files outside docs/ become their paths on the site, which has no such files.

On a code host they work as they stand. A target that does not exist is a warning, which `strict` makes an error.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[2]
_LEAVING = re.compile(r"\[([^\]]+)\]\(\.\./([^)#]+)(#[^)]*)?\)")
_log = logging.getLogger("mkdocs.hooks.leaving_links")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Called by mkdocs with each page's source."""

    def path(match: re.Match[str]) -> str:
        if not (_ROOT / match[2]).exists():
            _log.warning("%s links to %s, which does not exist", page.file.src_path, match[2])
        return f"{match[1]} (`{match[2]}` of the source)"

    return _LEAVING.sub(path, markdown)
