"""What the server counts, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from nudge_onnx.runtime.nudging.results import Answer
from nudge_onnx.runtime.system.memory import peak_memory

__all__ = ["Metrics"]

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class Metrics:
    """Counters of one server."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self._registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"nudge_onnx_{name}", text, labels, registry=self._registry)

        def histogram(name: str, text: str) -> Histogram:
            return Histogram(f"nudge_onnx_{name}", text, buckets=_SECONDS, registry=self._registry)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"nudge_onnx_{name}", text, registry=self._registry)

        self._requests = counter("requests", "Requests by path and status.", "path", "status")
        self._tokens = counter("tokens", "Tokens of answers by the model that wrote them.", "source")
        self._answers = counter("answers", "Answers by why they ended.", "finish_reason")
        self._wait = histogram("queue_seconds", "Time that answers wait for a place.")
        self._first = histogram("first_piece_seconds", "Time from a request to the first piece of an answer.")
        self._prefill = histogram("prefill_seconds", "Time to read the prompts of an answer.")
        self._decode = histogram("decode_seconds", "Time to write an answer, prompts not included.")
        self._running = gauge("answers_running", "Answers that are being written.")
        self._waiting = gauge("answers_waiting", "Answers that wait for a place.")
        self._memory = gauge("peak_memory_bytes", "Most bytes of physical memory that the process held.")

    def requested(self, path: str, status: int) -> None:
        """Count a request."""
        self._requests.labels(path, str(status)).inc()

    def waited(self, seconds: float) -> None:
        """Count an answer that got its place."""
        self._wait.observe(seconds)

    def first_piece(self, seconds: float) -> None:
        """Count the first piece of an answer."""
        self._first.observe(seconds)

    def answered(self, answer: Answer) -> None:
        """Count an answer that has ended."""
        self._answers.labels(answer.finish_reason).inc()
        for source, count in answer.tokens.items():
            self._tokens.labels(source).inc(count)
        self._prefill.observe(answer.timings.prefill)
        self._decode.observe(answer.timings.decode)

    def text(self, running: int, waiting: int) -> bytes:
        """All of it in Prometheus' format."""
        self._running.set(running)
        self._waiting.set(waiting)
        self._memory.set(peak_memory() or 0)
        return generate_latest(self._registry)
