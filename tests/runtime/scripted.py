"""Models that follow a script, for tests that state exactly what is read and what is written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer as Trained
from tokenizers import decoders, models, pre_tokenizers

from nudge_onnx.choices import Tail
from nudge_onnx.errors import ContextLengthError
from nudge_onnx.runtime.choosing.choosers import Chooser
from nudge_onnx.runtime.choosing.gates import top1
from nudge_onnx.runtime.choosing.pair_gates import bet
from nudge_onnx.runtime.choosing.sampling import Sampling
from nudge_onnx.runtime.inference.costs import Costs
from nudge_onnx.runtime.inference.remembered_rows import RememberedRows
from nudge_onnx.runtime.nudging.draft import token_hand_overs, word_hand_overs
from nudge_onnx.runtime.nudging.loop import NudgingLoop
from nudge_onnx.runtime.nudging.participant import IdParticipant, Participant
from nudge_onnx.runtime.nudging.results import Piece
from nudge_onnx.runtime.nudging.speculation import Speculation, SpeculationMode
from nudge_onnx.runtime.nudging.transcript import Transcript
from nudge_onnx.runtime.text.prompt import PromptIds
from nudge_onnx.runtime.text.tokenizer import Tokenizer

END = 0
PROMPT = "?"
Script = Callable[[str], "tuple[str, float]"]
"""The answer so far -> the next byte (empty to end) and its probability. A character stands for a byte here."""


def byte_tokenizer(folder: Path) -> Tokenizer:
    """Id 0 is the end token, id n + 1 is the byte n."""
    vocabulary = {"<end>": END}
    for char in sorted(pre_tokenizers.ByteLevel.alphabet(), key=byte_of):
        vocabulary[char] = byte_of(char) + 1
    trained = Trained(models.BPE(vocabulary, []))
    trained.add_special_tokens(["<end>"])
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trained.decoder = decoders.ByteLevel()
    trained.save(str(folder / "tokenizer.json"))
    return Tokenizer(folder / "tokenizer.json")


def byte_of(char: str) -> int:
    """The byte that a character of GPT-2's alphabet stands for."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    if ord(char) < 256 and ord(char) in printable:
        return ord(char)
    return [byte for byte in range(256) if byte not in printable][ord(char) - 256]


class ScriptedDecoder:
    """Feeds and rewinds like `Decoder`, and keeps a record of every pass: its ids as text, and its rows."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._ids: list[int] = []
        self.context_length = 10_000
        self.costs = Costs()
        self.nbytes = 0
        self.fed = 0
        self.passes: list[str] = []

    @property
    def length(self) -> int:
        return len(self._ids)

    def rewind(self, length: int) -> None:
        assert length <= len(self._ids)
        del self._ids[length:]

    def read(self, *, head: bool) -> None:
        assert not head

    def feed(self, ids: Sequence[int], rows: int = 1) -> np.ndarray:
        assert 1 <= rows <= len(ids)
        if len(self._ids) + len(ids) > self.context_length:
            raise ContextLengthError("the script is longer than the context")
        self._ids += ids
        self.fed += len(ids)
        self.passes.append(text_of(ids))
        return np.stack([self._logits(len(self._ids) - rows + 1 + row) for row in range(rows)])

    def _logits(self, length: int) -> np.ndarray:
        text = text_of(self._ids[:length])
        char, probability = self._script(text.removeprefix(PROMPT))
        logits = np.full(257, np.log((1 - probability) / 256), np.float32)
        logits[ord(char) + 1 if char else END] = np.log(probability)
        return logits


def text_of(ids: Sequence[int]) -> str:
    """The bytes of ids of the byte tokenizer, one character each."""
    return bytes(i - 1 for i in ids if i != END).decode("latin-1")


def follow(text: str, unsure: Sequence[int] = ()) -> Script:
    """A model that writes `text`, unsure (0.1 instead of 0.9) at these places, and ends behind it."""

    def script(answer: str) -> tuple[str, float]:
        at = len(answer)
        return text[at : at + 1], 0.1 if at in unsure else 0.9

    return script


class ScriptedPair:
    """A base and a nudging model that follow scripts, and one answer of theirs."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        base: Script,
        nudge: Script,
        *,
        policy: str = "word",
        speculation: SpeculationMode = "off",
        draft_tokens: int = 16,
        max_new_tokens: int = 200,
        tail: Tail = "draft",
        bets: float | None = None,
    ) -> None:
        self.base = ScriptedDecoder(base)
        self.nudge = ScriptedDecoder(nudge)
        self.speculation = Speculation(speculation, self.base.costs, self.nudge.costs)
        kind = IdParticipant if policy == "token" else Participant
        writers = []
        for name, decoder in (("base", self.base), ("nudge", self.nudge)):
            prompt = PromptIds(tokenizer, PROMPT, add_prefix=False)
            reader: RememberedRows = RememberedRows(decoder)  # type: ignore[arg-type]
            reader.start(Chooser(name, Sampling(), top1, 0.5, len(prompt.ids), entropy=speculation == "entropy"))
            writers.append(kind(reader, prompt, tokenizer, frozenset([END])))
        hand_overs = token_hand_overs if policy == "token" else word_hand_overs
        self.answer = Transcript(max_new_tokens)
        asks_both = None if bets is None else bet(bets)
        self.loop = NudgingLoop(*writers, self.answer, hand_overs, draft_tokens, self.speculation, tail, asks_both)

    def run(self) -> tuple[list[Piece], str]:
        """All pieces, and the finish reason."""
        pieces: list[Piece] = []
        source = self.loop.run()
        while True:
            try:
                pieces.append(next(source))
            except StopIteration as end:
                return pieces, end.value


def merged(pieces: Sequence[Piece]) -> list[tuple[str, str]]:
    """Sources and texts, neighbours of one source joined."""
    runs: list[tuple[str, str]] = []
    for piece in pieces:
        if runs and runs[-1][0] == piece.source:
            runs[-1] = (piece.source, runs[-1][1] + piece.text)
        else:
            runs.append((piece.source, piece.text))
    return runs
