"""Many clients: a bounded queue, places that get free, and an end that lets answers end."""

from __future__ import annotations

import json
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import pytest

from nudge_onnx import NudgedLM
from nudge_onnx.server.fair_queue import FairQueue, QueueFullError

from .running import MESSAGES, MODEL, Running, running

LONG = {"max_tokens": 400, "nudge": {"mode": "base"}}


def hang_up(server: Running, *, stream: bool) -> None:
    """Ask for a long answer, and go once it is being written."""
    body = json.dumps({"model": MODEL, "messages": MESSAGES, "stream": stream, **LONG}).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head += f"Content-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as wire:
        wire.sendall(head.encode() + body)
        if stream:
            wire.recv(1000)
        else:
            until = time.monotonic() + 10
            while server.engine.idle:
                assert time.monotonic() < until
                time.sleep(0.002)


@pytest.mark.parametrize("stream", [True, False])
def test_who_hangs_up_leaves_the_place_free(server: Running, stream: bool) -> None:
    before = server.lm.scheduler.at_work
    hang_up(server, stream=stream)
    server.wait_until_idle()
    assert server.lm.scheduler.at_work == before
    assert server.lm.pool.lent == ()
    assert server.chat().status_code == 200


def test_more_than_may_wait_are_told_when_to_come_back(lm: NudgedLM) -> None:
    with running(lm, places=1, queue=2) as server, ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: server.chat(max_tokens=100), range(8)))
        codes = sorted(response.status_code for response in found)
        assert set(codes) <= {200, 429}
        assert 429 in codes
        refused = next(response for response in found if response.status_code == 429)
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.json()["error"]["code"] == "queue_full"
        texts = {r.json()["choices"][0]["message"]["content"] for r in found if r.status_code == 200}
        assert len(texts) == 1
        assert server.chat(n=4).status_code == 400


def test_who_waits_too_long_is_refused_and_a_long_answer_is_cut(lm: NudgedLM) -> None:
    with (
        running(lm, places=1, wait_seconds=0.05) as server,
        server.client.stream(
            "POST", "/v1/chat/completions", json={"model": MODEL, "messages": MESSAGES, "stream": True, **LONG}
        ) as first,
    ):
        next(first.iter_lines())
        assert server.chat().status_code in (200, 429)
    with running(lm, answer_seconds=0.02) as server:
        choice = server.chat(**LONG).json()["choices"][0]
        assert choice["finish_reason"] == "length"
        assert choice["nudge"]["finish_reason"] in ("time", "length")


def test_a_stream_says_that_it_is_alive(lm: NudgedLM) -> None:
    with running(lm, ping_seconds=0.0005) as server:
        text = server.chat(stream=True).text
    assert ": ping\n\n" in text
    assert text.replace(": ping\n\n", "").endswith("data: [DONE]\n\n")


def test_a_stop_lets_answers_end_and_refuses_new_ones(lm: NudgedLM) -> None:
    with running(lm, grace_seconds=20.0) as server:
        body = {"model": MODEL, "messages": MESSAGES, "stream": True, "max_tokens": 300, "nudge": {"mode": "base"}}
        with server.client.stream("POST", "/v1/chat/completions", json=body) as response:
            lines = response.iter_lines()
            next(lines)
            server.server.handle_exit(signal.SIGTERM, None)
            found = [line for line in lines if line]
        assert found[-1] == "data: [DONE]"
        until = time.monotonic() + 5
        while not server.server.should_exit:
            assert time.monotonic() < until
            time.sleep(0.01)


def test_while_it_stops_it_says_so(lm: NudgedLM) -> None:
    with running(lm) as server:
        server.engine.draining = True
        refused = server.chat()
        assert refused.status_code == 503
        assert "stopping" in refused.json()["error"]["message"]
        assert server.client.get("/readyz").status_code == 503
        assert server.client.get("/healthz").status_code == 200


def test_answers_at_once_are_those_alone(server: Running) -> None:
    prompts = [
        f"Tell me about {name}." for name in ("rivers", "hills", "bread", "rain", "a dog", "two cats", "tea", "x")
    ]
    ask: Any = lambda prompt: server.chat(messages=[{"role": "user", "content": prompt}], max_tokens=24).json()  # noqa: E731
    alone = [ask(prompt)["choices"][0]["message"] for prompt in prompts]
    with ThreadPoolExecutor(8) as threads:
        for _ in range(3):
            assert [one["choices"][0]["message"] for one in threads.map(ask, prompts)] == alone


def test_metrics_count(server: Running) -> None:
    server.chat()
    text = server.client.get("/metrics").text
    assert 'nudge_onnx_requests_total{path="/v1/chat/completions",status="200"}' in text
    assert 'nudge_onnx_tokens_total{source="base"}' in text
    assert "nudge_onnx_answers_running 0.0" in text
    server.client.get("/a-secret-path")
    text = server.client.get("/metrics").text
    assert 'nudge_onnx_requests_total{path="other",status="404"}' in text
    assert "secret" not in text


def test_a_failing_model_is_told_and_costs_no_place(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    from nudge_onnx.runtime.choosing.gates import broken_logits
    from nudge_onnx.runtime.inference.decoder import Decoder

    def fail(*_: Any) -> Any:
        raise broken_logits("base", float("nan"))

    server.lm.pool.clear()
    with monkeypatch.context() as patch:
        patch.setattr(Decoder, "prefill", fail)
        response = server.chat()
        assert response.status_code == 500
        assert "nan logits" in response.json()["error"]["message"]
        text = server.chat(stream=True).text
        assert json.loads(text.strip().split("\n\n")[-1].removeprefix("data: "))["error"]["type"] == "server_error"
    server.wait_until_idle()
    assert server.chat().status_code == 200


def test_clients_take_turns() -> None:
    async def check() -> None:
        queue = FairQueue(1, 10)
        served: list[str] = []

        async def want(client: str) -> None:
            async with queue.place(client):
                served.append(client)
                await anyio.sleep(0)

        async with anyio.create_task_group() as group:
            for client in ("a", "a", "a", "a", "b", "b", "c"):
                group.start_soon(want, client)
        assert served == ["a", "a", "b", "c", "a", "b", "a"]
        assert (queue.taken, queue.waiting) == (0, 0)

    anyio.run(check)


def test_who_stops_waiting_leaves_the_line() -> None:
    async def check() -> None:
        queue = FairQueue(1, 1)
        async with queue.place("a"):
            with anyio.move_on_after(0.01):
                async with queue.place("b"):
                    raise AssertionError
            assert queue.waiting == 0
            async with anyio.create_task_group() as group:

                async def wait() -> None:
                    async with queue.place("c"):
                        pass

                group.start_soon(wait)
                await anyio.sleep(0.01)
                with pytest.raises(QueueFullError):
                    queue.check(1)
                group.cancel_scope.cancel()
        async with queue.place("d"):
            assert queue.taken == 1
        assert (queue.taken, queue.waiting) == (0, 0)

    anyio.run(check)
