"""The Python service of docs/embedding.md, run as it stands there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "embedding.md"
BUNDLES = Path(__file__).resolve().parent / "bundles"


def test_the_python_service_streams_an_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = PAGE.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    (tmp_path / "bundle").symlink_to(BUNDLES / "word")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(code, names)
    try:
        events = list(names["answer"]([{"role": "user", "content": "the cat sat on a mat"}]))
        early = names["answer"]([{"role": "user", "content": "the cat"}])
        next(early)
        early.close()
        assert {"text", "source"} == events[0].keys()
        alone = names["lm"].generate([{"role": "user", "content": "the cat sat on a mat"}], max_new_tokens=256)
        assert "".join(event["text"] for event in events[:-1]) == alone.text
        assert events[-1] == {"finish_reason": alone.finish_reason}
        assert names["lm"].pool.lent == (), "a stream that is closed early gives its caches back"
    finally:
        names["lm"].close()
