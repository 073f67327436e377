"""What the paper compares nudging with: each model alone, an ensemble, and proxy-tuning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet

import numpy as np

from nudge_onnx.errors import ContextLengthError

from ..choosing.choosers import Choice
from ..choosing.gates import Softmax
from ..inference.outputs import Logits
from ..inference.remembered_rows import RememberedRows
from ..text.prompt import PromptIds
from .loop import Pieces
from .participant import Participant
from .results import SourceName
from .transcript import OpenTokens, Transcript

__all__ = ["alone", "ensemble", "mixed", "proxy_tuning"]


def alone(writer: Participant, source: SourceName, answer: Transcript) -> Pieces:
    """One model writes until its own end token."""
    ids = writer.ids(answer)
    tokens = OpenTokens(source, writer.bytes_of)
    try:
        while not answer.full:
            choice = writer.next(ids)
            if writer.ends(choice):
                piece = tokens.give_up(answer)
                if piece is not None:
                    yield piece
                return "stop"
            ids.append(choice.token)
            piece = tokens.add(choice, answer)
            if piece is not None:
                yield piece
    except ContextLengthError:
        pass
    return "length"


Mix = Callable[[Sequence[Logits]], "tuple[int, float]"]
"""Logits of several models at one position, each float32 `[vocabulary]` -> token and its score."""


def mixed(
    voices: Sequence[tuple[RememberedRows[Logits], PromptIds]],
    mix: Mix,
    ends: AbstractSet[int],
    bytes_of: Callable[[int], bytes],
    answer: Transcript,
) -> Pieces:
    """Several models with one vocabulary choose each token together. The pieces say `base`."""
    tokens = OpenTokens("base", bytes_of)
    written: list[int] = []
    try:
        while not answer.full:
            token, score = mix([memory.next(prompt.ids + written) for memory, prompt in voices])
            if token in ends:
                piece = tokens.give_up(answer)
                if piece is not None:
                    yield piece
                return "stop"
            written.append(token)
            piece = tokens.add(Choice(token, score, True), answer)
            if piece is not None:
                yield piece
    except ContextLengthError:
        pass
    return "length"


def ensemble(logits: Sequence[Logits]) -> tuple[int, float]:
    """Arg-max and value of the mean of the models' next-token distributions."""
    shortest = min(map(len, logits))
    mean = sum(_probabilities(row)[:shortest] for row in logits) / np.float32(len(logits))
    token = int(np.argmax(mean))
    return token, float(np.asarray(mean)[token])


def proxy_tuning(logits: Sequence[Logits]) -> tuple[int, float]:
    """Arg-max and probability of base + (aligned - unaligned), logits of three models in this order.

    Liu et al., "Tuning Language Models by Proxy", 2024 (arXiv 2401.08565).
    """
    shortest = min(map(len, logits))
    base, aligned, unaligned = (row[:shortest] for row in logits)
    softmax = Softmax(base + (aligned - unaligned), "proxy-tuned")
    return softmax.argmax, softmax.top1


def _probabilities(logits: Logits) -> Logits:
    softmax = Softmax(logits, "ensemble's")
    scaled: Logits = np.exp(logits - logits[softmax.argmax]) * np.float32(softmax.top1)
    return scaled
