"""The public face: a bundle loaded, answers streamed."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from nudge_onnx.arguments import integer, path
from nudge_onnx.bundle import Bundle
from nudge_onnx.errors import ContextLengthError, NudgeError

from .answering import Answering
from .choosing.gates import Gate
from .choosing.sampling import Sampling
from .inference.decoder import Decoder
from .inference.pool import CachePool
from .inference.remembered_rows import RememberedRows
from .loading import open_models
from .nudging.results import Answer, Timings
from .nudging.speculation import SpeculationMode
from .options import ROLES_OF_MODE, AnswerOptions, Mode
from .sessions.model_session import RowBits
from .sessions.providers import ProviderSpec
from .stream import Stream
from .system.memory import peak_memory, return_freed_memory
from .text.control_tokens import ControlTokens, check_control_tokens, prompt_ids
from .text.prompt import Message, PromptIds, as_messages
from .text.tokenizer import Tokenizer

__all__ = ["Mode", "NudgedLM", "Stream"]

# ONNX Runtime starts what it is told to, and a million threads take all memory.
_MOST_THREADS = 1024
_MOST_CACHE_MIB = 2**40


class NudgedLM:
    """A base model and a nudging model, open and ready. Threads may share it, each with its own stream.

    lm = NudgedLM.load("bundle/")
    for piece in lm.stream("Why is the sky blue?"):
        print(piece.text, end="")
    """

    def __init__(self, bundle: Bundle, graphs: Mapping[str, Any], tokenizers: Mapping[str, Tokenizer], pool: CachePool):
        self.bundle = bundle
        """The bundle's folder and manifest."""
        self.load_seconds = 0.0
        """Seconds that `load` took."""
        self._graphs: Mapping[str, Any] | None = graphs
        self._tokenizers = tokenizers
        self._pool = pool

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        providers: Sequence[ProviderSpec] = ("cpu",),
        threads: int | None = None,
        cache_mib: int = 512,
        cache_dir: str | Path | None = None,
    ) -> NudgedLM:
        """Open a bundle.

        `providers` are execution providers in order of preference, by short name (`cpu`, `cuda`, `tensorrt`) or full
        name, alone or as `(name, options)`. `threads` per model (1 to 1,024), by default the cores. `cache_mib` bounds
        the KV caches that are kept for conversations to come back to; those used last stay, whatever their size.
        `cache_dir` is a folder for what a provider prepares of the graphs (see docs/providers.md): later loads find it
        there, and processes on one machine share it.

        Raises `BundleError`, `ProviderError`, `RuntimeMissingError`, and `NudgeError` for an argument out of range.
        """
        start = time.perf_counter()
        threads = None if threads is None else integer("threads", threads, 1, _MOST_THREADS)
        cache_mib = integer("cache_mib", cache_mib, 0, _MOST_CACHE_MIB)
        cache_folder = None if cache_dir is None else path("cache_dir", cache_dir)
        bundle = Bundle.open(path("folder", folder))
        graphs, tokenizers = open_models(bundle, providers, threads, cache_folder)
        pool = CachePool(
            lambda: {role: RememberedRows(Decoder(graph)) for role, graph in graphs.items()}, cache_mib << 20
        )
        lm = cls(bundle, graphs, tokenizers, pool)
        lm.load_seconds = time.perf_counter() - start
        return lm

    @property
    def peak_memory(self) -> int | None:
        """Most bytes of physical memory that this process held so far; `None` where the system does not say."""
        return peak_memory()

    @property
    def providers(self) -> dict[str, str]:
        """The provider that each model runs on, by role."""
        return {role: graph.provider for role, graph in (self._graphs or {}).items()}

    @property
    def row_bits(self) -> dict[str, RowBits]:
        """Which passes give a row of logits the same bits where each model runs, by role.

        `all`, those of two rows or more (`pairs`: each pass has two at the least), or `none`: nothing is read ahead,
        and a prompt is read in blocks.
        """
        return {role: graph.rows for role, graph in (self._graphs or {}).items()}

    def stream(
        self,
        prompt: str | Sequence[Message],
        *,
        gamma: float | None = None,
        policy: str | None = None,
        gate: str | Gate | None = None,
        draft_tokens: int | None = None,
        max_new_tokens: int | None = None,
        stop: str | Sequence[str] | None = None,
        system_prompt: str | None = None,
        mode: Mode = "nudged",
        speculation: SpeculationMode = "auto",
        sampling: Sampling | None = None,
        nudge_sampling: Sampling | None = None,
        control_tokens: ControlTokens = "allow",
    ) -> Stream:
        """Answer a prompt (one user message, or a list of chat messages), piece by piece.

        `gamma`, `policy` (`word`, `token`), `gate` (`top1`, `margin`, `entropy`, or a callable), `draft_tokens` and
        `system_prompt` default to the bundle's, `max_new_tokens` to 256. The text ends before the first of the texts
        in `stop`. `speculation` (`auto`, `off`, or 0 to 256 tokens) changes the speed and never the answer. `sampling`
        is greedy by default and holds for both models unless `nudge_sampling` is given. `control_tokens` says what
        happens to messages that spell a special token of a model: `allow` makes it one, `refuse` is an error, and
        `escape` reads it as text (see docs/embedding.md).

        Raises `NudgeError` for an argument out of range, `ContextLengthError` for a prompt that does not fit, and
        while streaming `LogitsError` if a model returns no numbers.
        """
        if self._graphs is None:
            raise NudgeError("this NudgedLM is closed; load the bundle again")
        manifest = self.bundle.manifest
        options = AnswerOptions.of(
            manifest,
            gamma=gamma,
            policy=policy,
            gate=gate,
            draft_tokens=draft_tokens,
            max_new_tokens=max_new_tokens,
            stop=stop,
            mode=mode,
            speculation=speculation,
            sampling=sampling,
            nudge_sampling=nudge_sampling,
        )
        check_control_tokens(control_tokens)
        messages = as_messages(prompt, system_prompt, manifest.defaults.system_prompt)
        prompts = {role: self._prompt(role, messages, control_tokens) for role in ROLES_OF_MODE[options.mode]}
        answering = Answering(manifest, options, prompts, self._tokenizers, Timings(load=self.load_seconds))
        return Stream(answering.pieces(self._pool), answering.timings, answering.cancellation)

    def generate(self, prompt: str | Sequence[Message], **options: Any) -> Answer:
        """The whole answer at once; `options` are those of `stream`."""
        with self.stream(prompt, **options) as stream:
            for _ in stream:
                pass
            return stream.answer

    def close(self) -> None:
        """Free the sessions and caches; streams on their way may end, and free theirs then. New ones are refused."""
        self._graphs = None
        self._tokenizers = {}
        self._pool.close()
        return_freed_memory()

    def __enter__(self) -> NudgedLM:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _prompt(self, role: str, messages: Sequence[Message], control_tokens: ControlTokens = "allow") -> PromptIds:
        model = self.bundle.manifest.models[role]
        prompt = prompt_ids(model.prompt, messages, self._tokenizers[role], role, control_tokens)
        if not prompt.ids:
            raise NudgeError(f"the prompt of the {role} model is empty; write something")
        if len(prompt.ids) >= model.context_length - 1:
            raise ContextLengthError(
                f"the prompt has {len(prompt.ids)} tokens and the {role} model's context is {model.context_length}; "
                "shorten the prompt or the conversation"
            )
        return prompt
