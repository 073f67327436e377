"""`nudge-onnx serve` as a program: it starts, says where, stops when told, and fails in one line."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from nudge_onnx.cli import main

from .running import MESSAGES, WORD

PROGRAM = Path(sys.executable).with_name("nudge-onnx")


@contextmanager
def started(log: Path, *options: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    with log.open("w") as stream:
        process = subprocess.Popen([PROGRAM, "serve", WORD, "--port", "0", *options], stderr=stream)
    try:
        until = time.monotonic() + 60
        while not (found := re.search(r"http://127\.0\.0\.1:\d+", log.read_text())):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until
            time.sleep(0.05)
        yield process, found[0]
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_it_is_told_to_stop(tmp_path: Path, sent: signal.Signals) -> None:
    log = tmp_path / "log"
    keys = tmp_path / "keys"
    keys.write_text("a-key-of-some-length\n")
    with started(log, "--api-key-file", str(keys), "--threads", "1") as (process, url):
        assert httpx.get(f"{url}/readyz").text == "ready\n"
        body = {"model": "word", "messages": MESSAGES, "max_tokens": 8}
        headers = {"authorization": "Bearer a-key-of-some-length"}
        assert httpx.post(f"{url}/v1/chat/completions", json=body).status_code == 401
        assert httpx.post(f"{url}/v1/chat/completions", json=body, headers=headers).status_code == 200
        command_line = Path(f"/proc/{process.pid}/cmdline")
        if command_line.exists():
            assert b"a-key" not in command_line.read_bytes()
        process.send_signal(sent)
        assert process.wait(20) == 0
    said = log.read_text()
    assert "Traceback" not in said
    assert "a-key-of" not in said
    assert "POST /v1/chat/completions 200" in said


def test_a_port_that_is_taken_is_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        command = [PROGRAM, "serve", WORD, "--port", port]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert f"Error: 127.0.0.1:{port} cannot be listened on" in done.stderr


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("nudge_onnx.server")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    result = CliRunner().invoke(main, ["serve", str(WORD)])
    assert result.exit_code == 1
    assert "nudge-onnx[serve]" in result.output
