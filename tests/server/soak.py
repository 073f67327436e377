"""`python -m tests.server.soak REQUESTS` prints the bytes that a server holds more after so many short requests."""

from __future__ import annotations

import gc
import random
import sys
from concurrent.futures import ThreadPoolExecutor

import httpx

from nudge_onnx import NudgedLM
from nudge_onnx.runtime.system.memory import return_freed_memory
from tests.resident import resident

from .running import MESSAGES, MODEL, WORD, running


def soak(requests: int) -> int:
    """Some requests are left in the middle; a quarter more come before, which is not measured."""
    with NudgedLM.load(WORD, threads=1) as lm, running(lm) as server:
        clients = [httpx.Client(base_url=server.url, timeout=60) for _ in range(8)]

        def ask(number: int) -> None:
            chance = random.Random(number).random()
            body = {"model": MODEL, "messages": MESSAGES, "max_tokens": 4, "stream": chance < 0.6}
            client = clients[number % len(clients)]
            if chance < 0.3:
                with client.stream("POST", "/v1/chat/completions", json={**body, "max_tokens": 200}) as response:
                    next(response.iter_lines())
            else:
                assert client.post("/v1/chat/completions", json=body).status_code == 200

        found = []
        with ThreadPoolExecutor(len(clients)) as threads:
            for count in (requests // 4, requests):
                list(threads.map(ask, range(count)))
                server.wait_until_idle()
                found.append(_resident())
        for client in clients:
            client.close()
    return found[1] - found[0]


def _resident() -> int:
    gc.collect()
    return_freed_memory()
    return resident()


if __name__ == "__main__":
    print(soak(int(sys.argv[1])))
