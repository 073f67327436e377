"""Some thousand short requests, of which some are left in the middle, end at the memory that they began with."""

from __future__ import annotations

import gc
import logging
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from real import EVERY

from nudge_onnx.runtime.system.memory import return_freed_memory

from .running import MESSAGES, MODEL, Running

REQUESTS = 3000 // EVERY
MIB = 2**20


def resident() -> int:
    gc.collect()
    return_freed_memory()
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


@pytest.mark.slow
def test_a_soak_ends_at_the_memory_that_it_began_with(server: Running, request: pytest.FixtureRequest) -> None:
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

    # pytest keeps every record, also of levels that other tests have let in, until the test has ended.
    logging.disable(logging.CRITICAL)
    request.addfinalizer(lambda: logging.disable(logging.NOTSET))
    with ThreadPoolExecutor(len(clients)) as threads:
        list(threads.map(ask, range(REQUESTS // 4)))
        server.wait_until_idle()
        before = resident()
        list(threads.map(ask, range(REQUESTS)))
        server.wait_until_idle()
        after = resident()
    for client in clients:
        client.close()
    assert after - before < 16 * MIB, f"{(after - before) / MIB:.1f} MiB more"
