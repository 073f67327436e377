"""Measures an exported graph against PyTorch fp32: logits in every kind of pass, and greedy tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nudge_onnx.bundle import Cache, GraphIO, Parity
from nudge_onnx.errors import ExportError

from ..support.memory import available_memory
from ..support.progress import Report, unheard
from ..trace.torch_reference import TorchReference
from .graph_runner import GraphRunner
from .layered_runner import Feed, run_layers

__all__ = ["FP32_LIMIT", "PASS_KINDS", "Measurement", "check", "measure"]

FP32_LIMIT = 1e-3
"""Most that an fp32 graph's logits may differ, relative to their range."""

PASS_KINDS = ("prefill", "step", "chunk")
"""A prompt on an empty cache, one token at a time, and several tokens on a filled cache."""

_PROMPTS = (
    "The sky is blue because sunlight is scattered by the molecules of the air, and",
    "Question: A farmer has 17 sheep and buys 25 more. How many sheep does he have?\nAnswer:",
    "def fibonacci(n):\n    if n < 2:\n        return n\n    return",
)
_LONG = (
    "Computing is intimately tied to the representation of numbers, and long before abstractions like the number arose "
    "there were concepts to serve the purposes of civilization: one-to-one correspondence, the basis of counting; "
    "comparison to a standard, used for measuring; and the 3-4-5 right triangle, a device for assuring a right angle. "
)
_CHUNKS = (4, 8)
_STEPS = 12
_CHECKED_TOGETHER = 4
_CONTINUED = _STEPS + sum(_CHUNKS)
_ROWS = 32
"""Positions of a prompt that are compared: logits of a large vocabulary are a megabyte each."""
_LONGEST_WINDOW = 1024
"""Nothing longer is filled: a forward pass over it takes minutes on a CPU."""
_LONGEST_EDGE = 2304
"""Nor are more positions read to compare what stands before and behind one."""
_AROUND = 1 << 30
"""Bytes that are wanted besides a graph's weights to run it whole."""

Logits = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Measurement:
    """Parity, and the largest difference of a logit in each kind of pass, relative to the range of all logits."""

    parity: Parity
    relative: dict[str, float] = field(default_factory=dict)
    steady_rows: bool = False
    """Whether a token read alone has the same logits, to the last bit, as one that is read together with others."""
    parameters: int = 0
    """Weights of the model, shared ones counted once."""


@dataclass
class _Tally:
    differences: dict[str, float] = field(default_factory=dict)
    agreeing: int = 0
    positions: int = 0
    kl: float = 0.0
    low: float = np.inf
    high: float = -np.inf

    def add(self, kind: str, expected: Logits, found: Logits) -> None:
        if not np.isfinite(found).all():
            raise ExportError(
                f"the exported graph returns logits that are not finite ({kind}): in fp16 some models, as Gemma 3, "
                "overflow, so choose another --precision; in another precision, report this model"
            )
        self.differences[kind] = max(self.differences.get(kind, 0.0), float(np.abs(expected - found).max()))
        self.low, self.high = min(self.low, float(expected.min())), max(self.high, float(expected.max()))
        self.agreeing += int((expected.argmax(-1) == found.argmax(-1)).sum())
        self.positions += len(expected)
        self.kl += _kl(expected, found)


def measure(
    graph: Path,
    io: GraphIO,
    cache: Cache,
    open_reference: Callable[[], TorchReference],
    encode: Callable[[str], Sequence[int]],
    *,
    context_length: int,
    sliding_window: int | None = None,
    original_context: int | None = None,
    edges: Sequence[int] = (),
    report: Report = unheard,
) -> Measurement:
    """Compare `graph` with what `open_reference` opens, on fixed prompts, encoded by `encode`.

    One of them goes past the sliding window and past the context that the model was first trained on, where there are
    such and a CPU reads so much in useful time. The graph goes on behind each prompt, and PyTorch reads all that was
    written in one pass. A graph that does not fit into memory is read layer by layer, and goes on with a given text
    instead. Behind as many positions as one of `edges` the graph takes another way to compute the same.
    Raises `ExportError` if a logit is not finite.
    """
    room = context_length - _CONTINUED
    prompts = [list(encode(text))[:room] for text in _PROMPTS]
    turns = [turn for turn in (sliding_window, original_context) if turn and turn <= _LONGEST_WINDOW]
    prompts.append(_repeat(encode, min(max([128, *turns]) + 40, room)))
    steady = [prompts[0]]
    near = (edge for edge in edges if edge <= min(room, _LONGEST_EDGE))
    steady += [_repeat(encode, edge + _CHECKED_TOGETHER // 2) for edge in near]
    if _fits(graph):
        read, steady_rows = _read_whole(graph, io, cache, prompts, steady, report)
    else:
        further = _repeat(encode, _CONTINUED)
        read, steady_rows = _read_in_layers(graph, io, cache, prompts, further, steady, report)
    tally, matching = _Tally(), 0
    reference = open_reference()
    texts = [prompt + found.continuation for prompt, found in zip(prompts, read, strict=True)]
    for prompt, found, expected in zip(prompts, read, reference.logits(texts, _ROWS + _CONTINUED), strict=True):
        # Of a short prompt there are fewer rows.
        expected = expected[-(min(_ROWS, len(prompt)) + _CONTINUED) :]
        at = 0
        for kind, logits in found.passes:
            tally.add(kind, expected[at : at + len(logits)], logits)
            at += len(logits)
        # What PyTorch would have written behind the same tokens; they are its own as long as all before agree.
        chosen = expected[-_CONTINUED - 1 : -1].argmax(-1).tolist()
        matching += _matching(found.choices, chosen)
    spread = (tally.high - tally.low) or 1.0
    worst = max(tally.differences.values())
    parity = Parity(
        positions=tally.positions,
        max_abs=worst,
        relative=worst / spread,
        top1_agreement=tally.agreeing / tally.positions,
        kl=max(0.0, tally.kl / tally.positions),
        greedy_agreement=matching / (len(prompts) * _CONTINUED),
    )
    relative = {kind: value / spread for kind, value in tally.differences.items()}
    return Measurement(parity, relative, steady_rows, reference.parameters)


def check(measurement: Measurement, precision: str) -> None:
    """Raise `ExportError` with the figures if an fp32 graph is not the same function as the PyTorch model."""
    if precision == "fp32" and measurement.parity.relative > FP32_LIMIT:
        figures = ", ".join(f"{kind} {value:.1e}" for kind, value in measurement.relative.items())
        raise ExportError(
            f"the exported graph differs from PyTorch by {measurement.parity.relative:.1e} of the logits' range, "
            f"more than {FP32_LIMIT:.0e} ({figures}); try --no-pass, and report this model"
        )


@dataclass(frozen=True)
class _Read:
    """What a graph says of a prompt and of what comes behind."""

    continuation: list[int]
    """What was fed behind the prompt."""
    passes: list[tuple[str, Logits]]
    """Kind and logits [rows, vocabulary] of passes over the end of the prompt and the continuation."""

    @property
    def choices(self) -> list[int]:
        """The most likely token behind the prompt, and behind each token of the continuation but the last."""
        rows = np.concatenate([logits for _, logits in self.passes])
        return [int(token) for token in rows[-_CONTINUED - 1 : -1].argmax(-1)]


_KINDS = ("prefill", *["step"] * _STEPS, *["chunk"] * len(_CHUNKS))


def _fits(graph: Path) -> bool:
    weights = sum(path.stat().st_size for path in graph.parent.glob(f"{graph.name}*"))
    return weights + _AROUND < available_memory()


def _read_whole(
    graph: Path,
    io: GraphIO,
    cache: Cache,
    prompts: Sequence[list[int]],
    steady: Sequence[list[int]],
    report: Report,
) -> tuple[list[_Read], bool]:
    """The graph reads the prompts and goes on with its most likely tokens; and whether its rows are steady."""
    longest = max(map(len, [*prompts, *steady]))
    runner = GraphRunner(graph, io, cache, capacity=longest + _CONTINUED + 1)
    read = []
    for index, prompt in enumerate(prompts):
        report(index, len(prompts))
        read.append(_read(runner, prompt))
    return read, all(_steady(runner, ids) for ids in steady)


def _read(runner: GraphRunner, prompt: list[int]) -> _Read:
    runner.rewind(0)
    logits = [runner.feed(prompt, min(_ROWS, len(prompt)))]
    continuation = [int(logits[0][-1].argmax())]
    for _ in range(_CONTINUED - 1):
        row = runner.feed(continuation[-1:])
        if len(logits) <= _STEPS:
            logits.append(row)
        continuation.append(int(row[-1].argmax()))
    at = _STEPS
    runner.rewind(len(prompt) + at)
    for size in _CHUNKS:
        logits.append(runner.feed(continuation[at : at + size]))
        at += size
    return _Read(continuation, list(zip(_KINDS, logits, strict=True)))


def _read_in_layers(
    graph: Path,
    io: GraphIO,
    cache: Cache,
    prompts: Sequence[list[int]],
    continuation: list[int],
    steady: Sequence[list[int]],
    report: Report,
) -> tuple[list[_Read], bool]:
    """The same with a given text behind the prompts."""
    ends = [0, *range(1, _STEPS + 1), *(_STEPS + sum(_CHUNKS[: n + 1]) for n in range(len(_CHUNKS)))]
    behind = [Feed(continuation[start:end], end - start) for start, end in pairwise(ends)]
    texts = [[Feed(prompt, min(_ROWS, len(prompt))), *behind] for prompt in prompts]
    for ids in steady:
        before, checked = ids[:-_CHECKED_TOGETHER], ids[-_CHECKED_TOGETHER:]
        texts.append([Feed(before, 1), Feed(checked, len(checked))])
        texts.append([Feed(before, 1), *(Feed([token], 1) for token in checked)])
    logits = run_layers(graph, io, cache, texts, report)
    pairs = zip(logits[len(prompts) :: 2], logits[len(prompts) + 1 :: 2], strict=True)
    equal = all(np.array_equal(together[1], np.concatenate(alone[1:])) for together, alone in pairs)
    read = [_Read(continuation, list(zip(_KINDS, found, strict=True))) for found in logits[: len(prompts)]]
    return read, equal


def _steady(runner: GraphRunner, prompt: list[int]) -> bool:
    before, checked = prompt[:-_CHECKED_TOGETHER], prompt[-_CHECKED_TOGETHER:]
    runner.rewind(0)
    runner.feed(before, 1)
    together = runner.feed(checked)
    runner.rewind(len(before))
    alone = [runner.feed([token]) for token in checked]
    return np.array_equal(together, np.concatenate(alone))


def _matching(found: list[int], expected: list[int]) -> int:
    return next((i for i, pair in enumerate(zip(found, expected, strict=True)) if pair[0] != pair[1]), len(expected))


def _kl(expected: Logits, found: Logits) -> float:
    """Sum over rows of KL(softmax(expected) || softmax(found)), in nats."""
    p, q = _log_softmax(expected), _log_softmax(found)
    return float((np.exp(p) * (p - q)).sum(dtype=np.float64))


def _log_softmax(logits: Logits) -> Logits:
    shifted = logits - logits.max(-1, keepdims=True)
    result: Logits = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True, dtype=np.float64)).astype(np.float32)
    return result


def _repeat(encode: Callable[[str], Sequence[int]], length: int) -> list[int]:
    ids = list(encode(_LONG))
    copies = -(-length // len(ids))
    return list(encode(_LONG * copies))[:length]
