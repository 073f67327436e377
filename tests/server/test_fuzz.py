"""What the served description of the API allows, and what it does not, in any form: no answer of 500, no traceback."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest
from real import EVERY

from .running import Running


def test_schemathesis_finds_nothing(server: Running, caplog: pytest.LogCaptureFixture) -> None:
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json", "--no-color"]
    command += ["--max-examples", str(25 // min(EVERY, 5)), "--phases", "coverage,fuzzing"]
    command += ["--checks", "not_a_server_error,status_code_conformance,content_type_conformance"]
    with caplog.at_level(logging.ERROR):
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert "11 passed" in done.stdout
    assert not any(record.exc_info for record in caplog.records)
    server.wait_until_idle()
