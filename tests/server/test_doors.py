"""Who may ask, and what a stranger can send."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from nudge_onnx import NudgedLM, NudgeError
from nudge_onnx.cli import main
from nudge_onnx.server.settings import Settings, read_keys

from .running import MESSAGES, MODEL, WORD, Running, running

KEYS = ("first-key-0123456789", "second-key-0123456789")


@pytest.fixture(scope="module")
def guarded(lm: NudgedLM) -> Iterator[Running]:
    with running(lm, keys=KEYS, body_bytes=20_000, receive_seconds=1.0, origins=("https://app.example",)) as found:
        yield found


@pytest.mark.parametrize("sent", [None, "", "Bearer", "Bearer wrong-key-0123456789", f"Basic {KEYS[0]}", "Bearer é"])
def test_a_wrong_key_gets_nothing(guarded: Running, sent: str | None) -> None:
    headers = {} if sent is None else {"authorization": sent.encode()}
    for path in ("/v1/models", "/metrics", "/tokenizer_info", "/nothing"):
        response = guarded.client.get(path, headers=headers)  # type: ignore[arg-type]
        assert response.status_code == 401
        assert response.json()["error"]["code"] == "invalid_api_key"
        assert response.headers["www-authenticate"] == "Bearer"


def test_each_key_opens_and_none_is_logged(guarded: Running, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        for key in KEYS:
            assert guarded.client.get("/v1/models", headers={"authorization": f"Bearer {key}"}).status_code == 200
        guarded.client.get(f"/v1/models?key={KEYS[0]}")
    # What uvicorn logs of a request is switched off.
    assert not logging.getLogger("uvicorn.access").propagate
    said = [record.getMessage() for record in caplog.records if record.name.startswith("nudge_onnx")]
    assert any("/v1/models" in line for line in said)
    assert not any(key in line for key in KEYS for line in said)


def test_page_and_health_need_no_key(guarded: Running) -> None:
    for path in ("/", "/page.js", "/page.css", "/healthz", "/readyz", "/openapi.json"):
        assert guarded.client.get(path).status_code == 200


def test_a_page_of_another_name_is_refused(server: Running) -> None:
    for host in ("evil.example", "evil.example:8000", "localhost.evil.example", ""):
        assert server.client.get("/v1/models", headers={"host": host}).status_code == 421
    for host in ("localhost", "LOCALHOST:8000", "127.0.0.1:1", "[::1]:8000"):
        assert server.client.get("/v1/models", headers={"host": host}).status_code == 200


def test_pages_of_other_origins_may_not_ask_unless_told(server: Running, guarded: Running) -> None:
    for origin in ("https://evil.example", "null"):
        assert server.client.get("/v1/models", headers={"origin": origin}).status_code == 403
    own = server.client.get("/v1/models", headers={"origin": server.url})
    assert own.status_code == 200
    assert "access-control-allow-origin" not in own.headers
    headers = {"origin": "https://app.example", "authorization": f"Bearer {KEYS[0]}"}
    let = guarded.client.get("/v1/models", headers=headers)
    assert let.headers["access-control-allow-origin"] == "https://app.example"
    asked = {"origin": "https://app.example", "access-control-request-method": "POST"}
    assert guarded.client.options("/v1/chat/completions", headers=asked).status_code == 200


def test_other_bodies_are_refused(guarded: Running) -> None:
    def send(content: Any, kind: str = "application/json") -> httpx.Response:
        headers = {"authorization": f"Bearer {KEYS[0]}", "content-type": kind}
        return guarded.client.post("/v1/chat/completions", content=content, headers=headers)

    assert send(b"{}", "text/plain").status_code == 415
    assert send(b"x" * 30_000).status_code == 413
    for bad in (
        b"",
        b"[",
        b"[]",
        b'"x"',
        b"\xff\xfe",
        b'{"a": NaN}',
        b'{"a": "\\ud800"}',
        b"[" * 10_000,
        b"9" * 10_000,
    ):
        response = send(bad)
        assert response.status_code == 400, bad[:20]
        assert response.json()["error"]["type"] == "invalid_request_error"


def test_unknown_paths_and_methods(server: Running) -> None:
    assert server.client.get("/nothing").json()["error"]["message"] == "there is no such path here"
    assert server.client.get("/v1/chat/completions").status_code == 405
    for path in ("/../../etc/passwd", "/%2e%2e/app.py", "/page/index.html", "/page.js/../app.py", "/static/x"):
        assert server.client.get(path).status_code == 404


def test_slow_and_torn_requests_end(guarded: Running) -> None:
    def end(sent: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", guarded.port), timeout=10) as wire:
            wire.sendall(sent)
            start, found = time.monotonic(), b""
            try:
                while part := wire.recv(4096):
                    found += part
            except ConnectionResetError:
                pass  # closed with something still on its way
            assert time.monotonic() - start < 5
            return found

    key = f"Authorization: Bearer {KEYS[0]}\r\n".encode()
    assert end(b"") == b""
    assert end(b"GET /healthz HTT") == b""
    assert end(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-A: ") == b""
    assert b" 400 " in end(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")
    head = (
        b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n" + key
    )
    assert b" 408 " in end(head + b"Content-Length: 50\r\n\r\n{")
    assert b" 200 " not in end(b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: " + b"a" * 1_000_000)
    get = b"GET %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n"
    found = end(get % (b"/healthz", b"") + get % (b"/readyz", b"Connection: close\r\n"))
    assert found.count(b" 200 ") == 2
    assert found.index(b"ok\n") < found.index(b"ready\n")


def test_headers_that_every_response_has(server: Running) -> None:
    page = server.client.get("/")
    assert page.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "unsafe" not in page.headers["content-security-policy"]
    assert "server" not in page.headers


def test_a_public_server_wants_a_key() -> None:
    result = CliRunner().invoke(main, ["serve", str(WORD), "--host", "0.0.0.0"])
    assert result.exit_code == 1
    assert "--api-key-file" in result.output
    assert Settings(host="127.0.0.2").local
    assert not Settings(host="0.0.0.0").local
    assert not Settings(host="::").local
    assert Settings(host="0.0.0.0").allowed_hosts is None


def test_key_files(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    for text, says in (
        ("", "no key"),
        ("# nothing\n", "no key"),
        ("short", "16 or more"),
        ("ünïcode-key-0123456789", "ASCII"),
    ):
        path.write_text(text)
        with pytest.raises(NudgeError, match=says):
            read_keys(path)
    path.write_text(f"# ours\n{KEYS[0]}\n\n{KEYS[1]}\n")
    assert read_keys(path) == KEYS
    with pytest.raises(NudgeError, match="cannot be read"):
        read_keys(tmp_path / "none")


def test_the_api_describes_itself(server: Running) -> None:
    found = server.client.get("/openapi.json").json()
    assert found["openapi"] == "3.1.0"
    assert "ChatBody" in found["components"]["schemas"]
    assert found["components"]["schemas"]["ChatBody"]["additionalProperties"] is False
    body = {"model": MODEL, "messages": MESSAGES}
    assert set(body) <= set(found["components"]["schemas"]["ChatBody"]["properties"])
