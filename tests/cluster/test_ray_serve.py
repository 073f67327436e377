"""Two replicas on a local cluster: the answers of one process, and what had not begun outlives a replica."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import httpx
import pytest
import ray
from ray import serve

from nudge_onnx import NudgedLM
from nudge_onnx.cluster.serving import Arguments, app

pytestmark = pytest.mark.slow

BUNDLE = Path(__file__).parents[1] / "conformance" / "bundles" / "word"
MESSAGES = [{"role": "user", "content": "Tell me about rivers."}]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ray.init("local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        serve.run(app({"bundle": str(BUNDLE), "name": "tiny", "replicas": 2, "most_replicas": 2, "cpus": 1}))
        yield f"http://127.0.0.1:{port}"
    finally:
        serve.shutdown()
        ray.shutdown()


def ask(url: str, number: int, **more: Any) -> httpx.Response:
    messages = [{"role": "user", "content": f"Tell me about {number} rivers."}]
    body = {"model": "tiny", "messages": messages, "max_tokens": 24, **more}
    return httpx.post(f"{url}/v1/chat/completions", json=body, timeout=120)


def expected(lm: NudgedLM, number: int, **more: Any) -> str:
    messages = [{"role": "user", "content": f"Tell me about {number} rivers."}]
    return lm.generate(messages, **{"max_new_tokens": 24, "control_tokens": "escape", **more}).text


def said(response: httpx.Response) -> str:
    chunks = [json.loads(line[6:]) for line in response.text.split("\n") if line.startswith("data: {")]
    return "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)


def processes() -> set[int]:
    handle = serve.get_deployment_handle("replica", "default")
    return {handle.process.remote().result() for _ in range(24)}


def test_replicas_answer_as_one_process(url: str) -> None:
    with NudgedLM.load(BUNDLE, threads=1) as lm:
        wanted = [expected(lm, number) for number in range(12)]
    with ThreadPoolExecutor(12) as threads:
        whole = list(threads.map(lambda number: ask(url, number), range(12)))
        streamed = list(threads.map(lambda number: ask(url, number, stream=True), range(12)))
    assert [one.json()["choices"][0]["message"]["content"] for one in whole] == wanted
    assert [said(one) for one in streamed] == wanted
    # What comes within a time is sent as one; the end is still there.
    assert all(one.text.endswith("data: [DONE]\n\n") for one in streamed)
    assert httpx.get(f"{url}/v1/models").json()["data"][0]["id"] == "tiny"
    assert ask(url, 0, tools=[{}]).status_code == 400
    assert httpx.get(f"{url}/").text.startswith("<!doctype html>")


def test_what_had_not_begun_is_answered_although_a_replica_is_killed(url: str) -> None:
    with NudgedLM.load(BUNDLE, threads=1) as lm:
        wanted = [expected(lm, number, max_new_tokens=400, mode="base") for number in range(24)]
    pids = processes()
    assert len(pids) == 2
    with ThreadPoolExecutor(24) as threads:
        # Not streamed: nothing of them has been sent until they are whole, so none may be lost.
        long: Any = {"max_tokens": 400, "nudge": {"mode": "base"}}
        asked = [threads.submit(ask, url, number, **long) for number in range(24)]
        wait(asked, return_when=FIRST_COMPLETED)
        assert sum(one.done() for one in asked) < 16
        os.kill(pids.pop(), signal.SIGKILL)
        found = [one.result() for one in asked]
    assert [one.status_code for one in found] == [200] * 24
    assert [one.json()["choices"][0]["message"]["content"] for one in found] == wanted
    until = time.monotonic() + 60
    while len(processes()) < 2:
        assert time.monotonic() < until, "the replica is not started anew"
        time.sleep(1)


def test_who_hangs_up_frees_the_place(url: str) -> None:
    body = {"model": "tiny", "messages": MESSAGES, "stream": True, "max_tokens": 400}
    for _ in range(20):
        with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=60) as response:
            next(response.iter_lines())
    assert ask(url, 1).status_code == 200


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="bundel"):
        app({"bundel": "x"})
    assert Arguments(bundle="x", places="4").places == 4  # type: ignore[arg-type]
