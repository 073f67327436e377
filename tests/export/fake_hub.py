"""A hub on localhost: enough of its protocol for huggingface_hub to download from."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


Fault = int | str
"""A status to answer with, `cut` (half of a file), or `silent` (nothing for two seconds)."""


@contextmanager
def fake_hub(models: dict[str, Path], faults: dict[str, list[Fault]] | None = None) -> Iterator[str]:
    """Serve checkpoint folders by their hub id; `org/gated` is gated. Yields the address.

    `faults` has what happens first, each once, to requests whose path ends so.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(body=True)

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def answer(self, body: bool) -> None:
            path = self.path.split("?")[0].strip("/")
            fault = next((left.pop(0) for end, left in (faults or {}).items() if path.endswith(end) and left), None)
            if isinstance(fault, int):
                return self.refuse(fault, "")
            if fault == "silent":
                time.sleep(2)
            name = "/".join(path.removeprefix("api/models/").split("/")[:2])
            if name == "org/gated":
                return self.refuse(403, "GatedRepo")
            if name not in models:
                return self.refuse(404, "RepoNotFound")
            rest = path.removeprefix("api/models/").removeprefix(name).strip("/").split("/")
            if len(rest) > 1 and rest[1] not in ("main", "v1", COMMIT):
                return self.refuse(404, "RevisionNotFound")
            if path.startswith("api/"):
                files = sorted(file.name for file in models[name].iterdir())
                content = {"id": name, "sha": COMMIT, "siblings": [{"rfilename": file} for file in files]}
                return self.send(json.dumps(content).encode(), body)
            return self.send((models[name] / rest[-1]).read_bytes(), body, cut=fault == "cut")

        def send(self, content: bytes, body: bool, cut: bool = False) -> None:
            # A client that was cut off asks for the rest.
            start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(content) - start))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            if body:
                self.wfile.write(content[start : len(content) // 2] if cut else content[start:])

        def refuse(self, status: int, code: str) -> None:
            self.send_response(status)
            if status == 401:
                self.send_header("X-Error-Message", "Invalid credentials in Authorization header")
            if code:
                self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
