"""The server over HTTP: beside the engine without it, one answer after the other, and llama.cpp."""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import click

from benchmarks.engines import Worker, cores
from benchmarks.nudged import PAIRS
from benchmarks.places import GGUF, PEERS
from benchmarks.report import Report
from benchmarks.texts import PROMPTS, mixed_prompts
from benchmarks.throughput import prompt_ids

CLIENTS = 8
PROMPT_COUNT, TOKENS = 32, 128
FIRSTS = 21
ENGINE, SERVED, SERIAL = "the engine, 8 at once", "the server, 8 clients", "the server with one place, 8 clients"
LLAMA = "llama.cpp, 8 sequences, without a server"
ABOUT = """
{prompts} prompts of 5 to 300 tokens, answers of at most {tokens}, greedy, from empty caches, streamed by {clients}
clients of which each asks again when it has its answer. Tokens per second are those of all answers over the time from
the first request to the last token. Runs take turns; the figures are medians of {rounds}. The engine is
`NudgedLM.stream` in {clients} threads, in a process of its own. llama.cpp runs its own batches over sequences on the
GGUF that the bundle was made of, as its server's slots do, without a server around it.
"""


def serving(pair_name: str, prompts: int = PROMPT_COUNT, tokens: int = TOKENS, rounds: int = 3) -> None:
    """Measure a pair and write the results."""
    pair = PAIRS[pair_name]()
    about = f"{pair.about}\n{ABOUT.format(prompts=prompts, tokens=tokens, clients=CLIENTS, rounds=rounds)}"
    report = Report(f"serving-{pair_name}", f"Over HTTP, {pair.title.split(', ')[-1]}", about)
    texts = mixed_prompts(prompts)
    speeds: dict[str, dict[str, list[float]]] = {mode: {} for mode in ("nudged", "base")}
    firsts: dict[str, list[float]] = {ENGINE: [], SERVED: []}
    with ExitStack() as stack:
        engine = stack.enter_context(Worker("nudged", "ours"))
        engine.ask("load", bundle=str(pair.bundle), slots=CLIENTS)
        ports = {title: stack.enter_context(_server(pair.bundle, places)) for title, places in _SERVERS.items()}
        for number in range(FIRSTS):
            firsts[ENGINE].append(engine.ask("first", prompt=f"{number}: {PROMPTS[0]}"))
            firsts[SERVED].append(_first(ports[SERVED], f"{number}: {PROMPTS[0]}"))
        for number in range(rounds):
            for mode, found in speeds.items():
                print(f"{report.name}: {mode}, round {number + 1} of {rounds}", file=sys.stderr)
                # A word of their own, for no cache to hold them.
                asked = [f"{mode} {number}: {text}" for text in texts]
                run = engine.ask("many", prompts=asked, tokens=tokens, at_once=CLIENTS, mode=mode)
                found.setdefault(ENGINE, []).append(run["tokens"] / run["seconds"])
                for title, port in ports.items():
                    said, speed = _many(port, asked, tokens, mode)
                    assert said == run["texts"], "the server answers otherwise than the engine"
                    found.setdefault(title, []).append(speed)
    ids, ends = prompt_ids(pair.bundle, texts)
    with Worker("llamacpp_slots", "llamacpp") as llama:
        model = GGUF["large" if pair_name == "large" else "base"]
        llama.ask("load", model=str(model), threads=cores(), slots=CLIENTS)
        for _ in range(rounds):
            run = llama.ask("many", prompts=ids, tokens=tokens, at_once=CLIENTS, ends=ends)
            speeds["base"].setdefault(LLAMA, []).append(run["tokens"] / run["seconds"])
    _write(report, speeds, firsts)


_SERVERS = {SERVED: CLIENTS, SERIAL: 1}


@contextmanager
def _server(bundle: Path, places: int) -> Iterator[int]:
    """A server process; gives its port."""
    command = [Path(sys.executable).with_name("nudge-onnx"), "serve", bundle, "--port", "0", "--places", str(places)]
    log = PEERS / f"served-{places}.log"
    with log.open("w") as stream:
        process = subprocess.Popen([*map(str, command), "--name", "pair", "--cache-mib", "4096"], stderr=stream)
    try:
        until = time.monotonic() + 120
        while not (found := re.search(r"http://127\.0\.0\.1:(\d+)", log.read_text())):
            if process.poll() is not None or time.monotonic() > until:
                raise click.ClickException(f"the server did not start; its log is {log}")
            time.sleep(0.1)
        yield int(found[1])
    finally:
        process.terminate()
        process.wait(60)


def _many(port: int, texts: Sequence[str], tokens: int, mode: str) -> tuple[list[str], float]:
    begun = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as threads:
        found = list(threads.map(lambda text: _answer(port, text, tokens, mode), texts))
    seconds = time.perf_counter() - begun
    return [text for text, _ in found], sum(count for _, count in found) / seconds


def _answer(port: int, text: str, tokens: int, mode: str) -> tuple[str, int]:
    said, count = "", 0
    for chunk in _chunks(port, text, tokens, mode):
        choice = chunk["choices"][0]
        said += choice["delta"].get("content", "")
        count += len(choice.get("nudge", {}).get("token_ids", ()))
    return said, count


def _first(port: int, text: str) -> float:
    begun = time.perf_counter()
    chunks = _chunks(port, text, 64, "nudged")
    for chunk in chunks:
        if "source" in chunk["choices"][0].get("nudge", {}):
            seconds = time.perf_counter() - begun
            chunks.close()
            return seconds
    raise AssertionError("an answer without a piece")


def _chunks(port: int, text: str, tokens: int, mode: str) -> Any:
    connection = HTTPConnection("127.0.0.1", port, timeout=600)
    messages = [{"role": "user", "content": text}]
    body = {"model": "pair", "messages": messages, "max_tokens": tokens, "stream": True, "nudge": {"mode": mode}}
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        assert response.status == 200, response.read()
        for line in response:
            if line.startswith(b"data: {"):
                yield json.loads(line[6:])
    finally:
        connection.close()


def _write(report: Report, speeds: dict[str, dict[str, list[float]]], firsts: dict[str, list[float]]) -> None:
    def median(mode: str, title: str) -> float:
        return statistics.median(speeds[mode][title])

    report.table(
        "Tokens per second of all answers: median (least to most)",
        ("", "nudged", "base model alone"),
        [
            (title, *(_range(speeds[mode].get(title, [])) for mode in ("nudged", "base")))
            for title in (ENGINE, SERVED, SERIAL, LLAMA)
        ],
    )
    rows: list[tuple[str, str, object]] = [
        ("nudged: over the engine without HTTP", f"{median('nudged', SERVED) / median('nudged', ENGINE):.2f}", 0.95),
        ("base alone: over the engine without HTTP", f"{median('base', SERVED) / median('base', ENGINE):.2f}", 0.95),
        ("nudged: over one answer after the other", f"{median('nudged', SERVED) / median('nudged', SERIAL):.2f}", 2.0),
        ("base alone: over one answer after the other", f"{median('base', SERVED) / median('base', SERIAL):.2f}", 2.0),
        ("base alone: over llama.cpp", f"{median('base', SERVED) / median('base', LLAMA):.2f}", 1.0),
    ]
    report.table("The server, 8 clients: times as fast", ("", "", "goal"), rows)
    engine, served = (statistics.median(firsts[title]) for title in (ENGINE, SERVED))
    more = statistics.median(b - a for a, b in zip(firsts[ENGINE], firsts[SERVED], strict=True))
    report.table(
        "The first piece of a short nudged answer, alone: ms",
        ("the engine", "over HTTP", "more, median of pairs", "goal"),
        [(f"{1e3 * engine:.1f}", f"{1e3 * served:.1f}", f"{1e3 * more:.1f}", "under 5")],
    )
    report.data |= {"tokens_per_second": speeds, "first_s": firsts}
    report.save()


def _range(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})" if values else ""
