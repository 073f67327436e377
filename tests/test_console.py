"""Commands on terminals, pipes and files that are not what one would wish: one line and a status, never a traceback."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

WORD = Path(__file__).parent / "conformance" / "bundles" / "word"
CODE = "from nudge_onnx.cli import main; main()"
posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX descriptors, signals and terminals")


def command(*arguments: str | Path | bytes) -> list[Any]:
    return [sys.executable, "-c", CODE, *arguments]


def run(
    *arguments: str | Path | bytes, env: Mapping[str, str] | None = None, text: bytes = b"", **options: Any
) -> subprocess.CompletedProcess[bytes]:
    options = {"input": text, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "timeout": 120, **options}
    return subprocess.run(command(*arguments), env={**os.environ, **(env or {})}, check=False, **options)


def one_line(found: subprocess.CompletedProcess[bytes], status: int = 1) -> str:
    assert found.returncode == status, found.stderr
    lines = found.stderr.decode().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("Error: ")
    return lines[0]


def shell(line: str, *arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
    """A command under a shell, as `"$@"` in `line`."""
    return subprocess.run(["sh", "-c", line, "sh", *command(*arguments)], capture_output=True, check=False, timeout=120)


@pytest.fixture
def named(tmp_path: Path) -> Path:
    """A bundle with a name that neither ASCII nor cp1252 can show."""
    bundle = Path(shutil.copytree(WORD, tmp_path / "bundle"))
    data = json.loads((bundle / "nudge.json").read_text(encoding="utf-8"))
    data["name"] = "鍵 über 😀"
    (bundle / "nudge.json").write_text(json.dumps(data), encoding="utf-8")
    return bundle


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_what_stdout_cannot_show_is_replaced_and_in_json_escaped(named: Path, encoding: str) -> None:
    env = {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    shown = run("inspect", named, env=env)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.decode(encoding).startswith("鍵 über 😀".encode(encoding, "replace").decode(encoding))
    as_json = run("inspect", named, "--json", env=env).stdout
    assert json.loads(as_json.decode(encoding))["name"] == "鍵 über 😀"
    assert as_json.isascii() == (encoding != "utf-8")
    answer = run("run", WORD, "the cat", "--json", "--max-new-tokens", "40", "--gamma", "0", env=env)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.isascii() or encoding == "utf-8"
    assert json.loads(answer.stdout.decode(encoding))["text"]
    assert run("run", WORD, "the cat", "--max-new-tokens", "40", env=env).returncode == 0


def test_a_terminal_encoding_cannot_end_a_conversation() -> None:
    found = run("chat", WORD, "--max-new-tokens", "4", text="鍵\nthe cat\n".encode(), env={"PYTHONIOENCODING": "ascii"})
    assert found.returncode == 0, found.stderr
    assert b"Traceback" not in found.stderr


@posix
@pytest.mark.parametrize(
    "arguments", [("inspect", WORD), ("run", WORD, "the cat", "--max-new-tokens", "4"), ("--help",)]
)
def test_a_closed_stdout_is_one_line(arguments: Sequence[str | Path]) -> None:
    assert "stdout is closed" in one_line(shell('exec "$@" >&-', *arguments))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a file that is always full")
@pytest.mark.parametrize("more", [(), ("--json",)])
def test_a_full_disk_under_stdout_is_one_line(more: Sequence[str]) -> None:
    for arguments in (("inspect", WORD, *more), ("run", WORD, "the cat", "--max-new-tokens", "4", *more)):
        assert "stdout takes no more (No space left" in one_line(shell('exec "$@" >/dev/full', *arguments))
    assert b"Traceback" not in shell('exec "$@" >/dev/full', "--help").stderr
    assert shell('exec "$@" 2>/dev/full', "inspect", "nowhere").returncode == 1


@posix
def test_a_pipe_whose_reader_has_gone_is_one_line() -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        found = run("run", WORD, "the cat", "--max-new-tokens", "4", stdout=write)
    finally:
        os.close(write)
    assert "stdout takes no more (Broken pipe)" in one_line(found)


@posix
@pytest.mark.parametrize("arguments", [("chat", WORD), ("run", WORD, "-")])
def test_a_closed_stdin_is_one_line_where_it_is_needed(arguments: Sequence[str | Path]) -> None:
    found = shell('exec "$@" <&-', *arguments)
    assert found.returncode == 1
    assert found.stderr.decode().splitlines()[-1].startswith("Error: stdin is closed")
    assert b"Traceback" not in found.stderr
    assert shell('exec "$@" <&-', "run", WORD, "the cat", "--max-new-tokens", "2").returncode == 0


@posix
def test_a_byte_that_is_no_text_is_one_line_and_a_conversation_goes_on() -> None:
    assert "the prompt is not Unicode text" in one_line(run("run", WORD, b"caf\xe9"))
    assert "the prompt is not Unicode text" in one_line(run("run", WORD, "-", text=b"caf\xe9"))
    for option, name in (("--system-prompt", "the system prompt"), ("--stop", "a stop string")):
        assert f"{name} is not Unicode text" in one_line(run("run", WORD, "the cat", option, b"caf\xe9"))
    assert "nowhere" in one_line(run("inspect", b"nowhere-\xe9"))
    found = run("chat", WORD, "--max-new-tokens", "4", text=b"caf\xe9\nthe cat\n")
    assert found.returncode == 0, found.stderr
    assert b"is not Unicode text" in found.stderr
    assert found.stdout == run("chat", WORD, "--max-new-tokens", "4", text=b"the cat\n").stdout


def test_chat_names_reset_where_the_context_is_full() -> None:
    found = run("chat", WORD, text=b"the cat " * 2000 + b"\n/reset\nthe cat\n", env={"PYTHONUTF8": "1"})
    assert found.returncode == 0, found.stderr
    errors = [line for line in found.stderr.decode().splitlines() if line.startswith("Error")]
    assert len(errors) == 1
    assert "/reset" in errors[0]
    assert found.stdout.strip()


@posix
@pytest.mark.parametrize(
    ("env", "more", "coloured"),
    [
        ({"TERM": "xterm"}, (), True),
        ({"TERM": "xterm", "NO_COLOR": ""}, (), True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, (), False),
        ({"TERM": "dumb"}, (), False),
        ({"TERM": "dumb", "NO_COLOR": "1"}, ("--color", "always"), True),
    ],
)
def test_no_color_and_a_dumb_terminal_are_heeded(env: Mapping[str, str], more: Sequence[str], coloured: bool) -> None:
    import pty

    ours, theirs = pty.openpty()
    clean = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    arguments = command("run", WORD, "the cat", "--max-new-tokens", "12", "--gamma", "1", *more)
    subprocess.run(arguments, env={**clean, **env}, stdout=theirs, stderr=subprocess.PIPE, check=True, timeout=120)
    os.close(theirs)
    shown = os.read(ours, 65536)
    os.close(ours)
    assert (b"\x1b[33m" in shown) == coloured


@posix
def test_ctrl_c_ends_a_command_with_status_130() -> None:
    code = (
        "import os, signal, time; from nudge_onnx import cli, console; "
        "console.read_text = lambda: (os.kill(os.getpid(), signal.SIGINT), time.sleep(60)); cli.main()"
    )
    found = subprocess.run([sys.executable, "-c", code, "run", WORD, "-"], capture_output=True, check=False, timeout=50)
    assert (found.returncode, found.stdout, found.stderr.split()) == (130, b"", [b"Interrupted"])
