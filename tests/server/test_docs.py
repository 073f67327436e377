"""Every `curl` of docs/serving.md runs, and gets an answer."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from nudge_onnx import NudgedLM

from .running import running

PAGE = Path(__file__).parents[2] / "docs" / "serving.md"


def commands() -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    lines = [re.split(r"\n(?=curl )", block.strip()) for block in blocks if block.startswith("curl")]
    return [command for some in lines for command in some]


def test_every_curl_is_answered(lm: NudgedLM) -> None:
    if shutil.which("curl") is None:
        pytest.fail("curl is not installed")
    assert len(commands()) >= 14
    with running(lm, model="nudged") as server:
        for command in commands():
            arguments = shlex.split(command.replace("http://127.0.0.1:8000", server.url))
            done = subprocess.run([*arguments, "--fail-with-body"], capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{command}\n{done.stdout}"
            if "-sN" in arguments:
                assert done.stdout.endswith("data: [DONE]\n\n")
            elif done.stdout.startswith("{"):
                assert "error" not in json.loads(done.stdout) or json.loads(done.stdout)["error"] is None
