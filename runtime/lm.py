"""The public face: a bundle loaded, answers streamed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeAlias, get_args

from nudge_onnx.bundle import Bundle
from nudge_onnx.errors import ContextLengthError, NudgeError

from .baselines import alone, ensemble, mixed, proxy_tuning
from .decoder import Decoder
from .draft import token_cuts, word_cuts
from .gates import Gate, resolve_gate, top1
from .loading import open_models
from .loop import NudgingLoop, Pieces
from .memory import peak_memory
from .pool import CachePool, Readers
from .prompt import Message, PromptIds, as_messages, render
from .providers import ProviderSpec
from .reader import Chooser, HeadChooser, Reader
from .results import Answer, FinishReason, Piece, Timings
from .sampling import Sampling
from .speculation import Speculation, SpeculationMode
from .stops import cut_at_stops
from .text import Transcript
from .tokenizer import Tokenizer
from .writer import IdWriter, Writer

__all__ = ["Mode", "NudgedLM", "Stream"]

Mode: TypeAlias = Literal["nudged", "base", "nudge", "ensemble", "proxy-tuning"]
_VOICES: Mapping[str, tuple[str, ...]] = {
    "nudged": ("base", "nudge"),
    "base": ("base",),
    "nudge": ("nudge",),
    "ensemble": ("base", "nudge"),
    "proxy-tuning": ("base", "nudge", "proxy_base"),
}


class Stream(Iterator[Piece]):
    """An answer on its way: iterate for its pieces; `close` cancels it; `answer` has what is there so far.

    Also a context manager that closes. Not for two threads at once.
    """

    def __init__(self, pieces: Pieces, timings: Timings) -> None:
        self._source = pieces
        self._pieces: list[Piece] = []
        self._timings = timings
        self._finish: FinishReason | None = None

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> Piece:
        if self._finish is not None:
            raise StopIteration
        try:
            piece = next(self._source)
        except StopIteration as end:
            self._finish = end.value
            raise
        except BaseException:
            # Ctrl-C in the middle of a pass ends this answer; the caches take part in the next one.
            self._finish = "cancelled"
            raise
        self._pieces.append(piece)
        return piece

    def close(self) -> None:
        """Cancel what is left; a no-op once the answer has ended."""
        if self._finish is None:
            self._finish = "cancelled"
        self._source.close()

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def answer(self) -> Answer:
        """The answer so far; its `finish_reason` is `cancelled` until it has ended."""
        pieces = tuple(self._pieces)
        return Answer("".join(p.text for p in pieces), pieces, self._finish or "cancelled", self._timings)


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
        name, alone or as `(name, options)`. `threads` per model, by default the cores. `cache_mib` bounds the KV
        caches that are kept for conversations to come back to. `cache_dir` is a folder for what a provider prepares
        of the graphs (see docs/providers.md): later loads find it there, and processes on one machine share it.

        Raises `BundleError`, `ProviderError`, `RuntimeMissingError`.
        """
        start = time.perf_counter()
        bundle = Bundle.open(folder)
        graphs, tokenizers = open_models(bundle, providers, threads, None if cache_dir is None else Path(cache_dir))
        pool = CachePool(lambda: {role: Reader(Decoder(graph)) for role, graph in graphs.items()}, cache_mib << 20)
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

    def stream(
        self,
        prompt: str | Sequence[Message],
        *,
        gamma: float | None = None,
        policy: str | None = None,
        gate: str | Gate | None = None,
        draft_tokens: int | None = None,
        max_new_tokens: int = 256,
        stop: str | Sequence[str] = (),
        system_prompt: str | None = None,
        mode: Mode = "nudged",
        speculation: SpeculationMode = "auto",
        sampling: Sampling | None = None,
        nudge_sampling: Sampling | None = None,
    ) -> Stream:
        """Answer a prompt (one user message, or a list of chat messages), piece by piece.

        `gamma`, `policy` (`word`, `token`), `gate` (`top1`, `margin`, `entropy`, or a callable), `draft_tokens` and
        `system_prompt` default to the bundle's. `speculation` changes the speed and never the answer. `sampling` is
        greedy by default and holds for both models unless `nudge_sampling` is given.

        Raises `NudgeError` for an argument out of range, `ContextLengthError` for a prompt that does not fit, and
        while streaming `LogitsError` if a model returns no numbers.
        """
        if self._graphs is None:
            raise NudgeError("this NudgedLM is closed; load the bundle again")
        manifest = self.bundle.manifest
        defaults = manifest.defaults
        gamma = defaults.gamma if gamma is None else gamma
        policy = policy or defaults.policy
        draft_tokens = defaults.draft_tokens if draft_tokens is None else draft_tokens
        stops = [stop] if isinstance(stop, str) else list(stop)
        self._check(gamma, policy, draft_tokens, max_new_tokens, stops, mode)
        sampling = sampling or Sampling()
        choose = {"base": sampling, "nudge": nudge_sampling or sampling}
        messages, system = as_messages(prompt, defaults.system_prompt if system_prompt is None else system_prompt)
        prompts = {role: self._prompt(role, messages, system) for role in _VOICES[mode]}
        gate_of = resolve_gate(gate or defaults.gate)
        timings = Timings(load=self.load_seconds)

        def write(readers: Readers) -> Pieces:
            answer = Transcript(max_new_tokens)
            if mode in ("ensemble", "proxy-tuning"):
                for role in prompts:
                    readers[role].start(lambda logits, ids, end: logits.copy())
                mix = ensemble if mode == "ensemble" else proxy_tuning
                ends = self._ends("base") | self._ends("nudge")
                bytes_of = self._tokenizers["base"].bytes_of
                return mixed([(readers[r], prompts[r]) for r in prompts], mix, ends, bytes_of, answer)
            for role, ids in prompts.items():
                if gate_of is top1 and choose[role].greedy and readers[role].decoder.has_head:
                    readers[role].start_with_head(HeadChooser(role, gamma))
                else:
                    readers[role].start(Chooser(role, choose[role], gate_of, gamma, len(ids.ids)))
            kind = IdWriter if policy == "token" else Writer
            writers = {
                role: kind(readers[role], ids, self._tokenizers[role], self._ends(role))
                for role, ids in prompts.items()
            }
            if mode != "nudged":
                return alone(writers[mode], "base" if mode == "base" else "nudge", answer)
            base_cost, nudge_cost = (readers[role].decoder.costs for role in ("base", "nudge"))
            # Two vocabularies share no noise: sampled drafts would almost never be what the base model draws.
            drafts = manifest.shared_vocabulary or all(one.greedy for one in choose.values())
            ahead = Speculation(speculation, base_cost, nudge_cost, drafts)
            cuts = token_cuts if policy == "token" else word_cuts
            return NudgingLoop(writers["base"], writers["nudge"], answer, cuts, draft_tokens, ahead).run()

        pieces = self._run(write, prompts, timings)
        if stops:
            pieces = cut_at_stops(pieces, stops, lambda piece, i: self._tokenizers[piece.source].bytes_of(i))
        return Stream(pieces, timings)

    def generate(self, prompt: str | Sequence[Message], **options: Any) -> Answer:
        """The whole answer at once; `options` are those of `stream`."""
        with self.stream(prompt, **options) as stream:
            for _ in stream:
                pass
            return stream.answer

    def close(self) -> None:
        """Free the sessions and caches; streams on their way may end, new ones are refused."""
        self._graphs = None
        self._pool.clear()

    def __enter__(self) -> NudgedLM:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, write: Callable[[Readers], Pieces], prompts: Mapping[str, PromptIds], timings: Timings) -> Pieces:
        """Lend caches to a writer of pieces, prefill them, and keep count."""
        readers = self._pool.acquire({role: prompt.ids for role, prompt in prompts.items()})
        try:
            return (yield from self._written(readers, write, prompts, timings))
        finally:
            self._pool.release(readers)

    def _written(
        self,
        readers: Readers,
        write: Callable[[Readers], Pieces],
        prompts: Mapping[str, PromptIds],
        timings: Timings,
    ) -> Pieces:
        before = {role: (readers[role].decoder.fed, readers[role].decoder.passes) for role in prompts}

        def count() -> None:
            for role, (fed, passes) in before.items():
                timings.fed[role] = readers[role].decoder.fed - fed
                timings.passes[role] = readers[role].decoder.passes - passes

        start = time.perf_counter()
        try:
            pieces = write(readers)
            for role, prompt in prompts.items():
                readers[role].prefill(prompt.ids)
            timings.prefill = time.perf_counter() - start
            start = time.perf_counter()
            while True:
                try:
                    piece = next(pieces)
                except StopIteration as end:
                    return end.value  # type: ignore[no-any-return]
                finally:
                    # Time that the caller spends with a piece is not ours.
                    timings.decode += time.perf_counter() - start
                    count()
                yield piece
                start = time.perf_counter()
        finally:
            count()
            timings.peak_memory = peak_memory()

    def _prompt(self, role: str, messages: Sequence[Message], system: str) -> PromptIds:
        model = self.bundle.manifest.models[role]
        text = render(model.prompt, messages, system)
        prompt = PromptIds(self._tokenizers[role], text, model.prompt.add_bos)
        if not prompt.ids:
            raise NudgeError(f"the prompt of the {role} model is empty; write something")
        if len(prompt.ids) >= model.context_length - 1:
            raise ContextLengthError(
                f"the prompt has {len(prompt.ids)} tokens and the {role} model's context is {model.context_length}; "
                "shorten the prompt or the conversation"
            )
        return prompt

    def _ends(self, role: str) -> frozenset[int]:
        return frozenset(self.bundle.manifest.models[role].end_token_ids)

    def _check(
        self, gamma: float, policy: str, draft_tokens: int, max_new_tokens: int, stops: Sequence[str], mode: str
    ) -> None:
        manifest = self.bundle.manifest
        if not 0 <= gamma <= 1:
            raise NudgeError(f"gamma must be between 0 and 1, not {gamma}")
        if policy not in ("word", "token"):
            raise NudgeError(f"unknown policy {policy!r}; use 'word' or 'token'")
        if draft_tokens < 1 or max_new_tokens < 1:
            raise NudgeError("draft_tokens and max_new_tokens must be 1 or more")
        if not all(stops):
            raise NudgeError("a stop string must not be empty")
        if mode not in get_args(Mode):
            raise NudgeError(f"unknown mode {mode!r}; use one of {', '.join(get_args(Mode))}")
        if not manifest.shared_vocabulary and (policy == "token" or mode in ("ensemble", "proxy-tuning")):
            what = "policy 'token'" if policy == "token" else f"mode {mode!r}"
            raise NudgeError(f"{what} needs two models with one vocabulary, and those of this bundle differ")
        if mode == "proxy-tuning" and "proxy_base" not in manifest.models:
            raise NudgeError("mode 'proxy-tuning' needs a bundle that was exported with --proxy-base")
