"""The public face: a bundle loaded, answers streamed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias, TypeVar, Unpack

from nudge_onnx.arguments import integer, must_be, one_of, path
from nudge_onnx.bundle import Bundle
from nudge_onnx.choices import ControlTokens
from nudge_onnx.errors import ContextLengthError, NudgeError
from nudge_onnx.limits import CACHE_MIB, MOST_SLOTS, SLOTS

from .answering import Answering
from .batching.admission import Admission
from .batching.scheduler import Scheduler
from .choosing.gates import Softmax
from .choosing.grammar import Vocabularies
from .choosing.logprobs import MOST_LOGPROBS, TokenLogprobs, token_logprobs
from .inference.cache import most_bytes
from .inference.decoder import PASS_ROWS, Decoder, Turns
from .inference.outputs import Logits
from .inference.pool import CachePool
from .inference.remembered_rows import RememberedRows
from .loading import open_models
from .many import answers
from .modes import Request
from .nudging.results import Answer, Timings
from .options import ROLES_OF_MODE, AnswerOptions, StreamOptions
from .scoring import Scoring
from .sessions.model_session import ModelSession, RowBits
from .sessions.providers import ProviderSpec
from .stream import Cancellation, Stream
from .system.memory import peak_memory, return_freed_memory
from .text.control_tokens import prompt_ids, raw_prompt_ids
from .text.prompt import Message, PromptIds, RawPrompt, as_messages
from .text.tokenizer import Tokenizer

__all__ = ["NudgedLM", "PromptLike"]

PromptLike: TypeAlias = "str | Sequence[Message] | RawPrompt"
"""One user message, the messages of a conversation, or a text to go on from."""

Row = TypeVar("Row")

# ONNX Runtime starts what it is told to, and a million threads take all memory.
_MOST_THREADS = 1024
_MOST_CACHE_MIB = 2**40
_MOST_PASS_ROWS = 4096


class NudgedLM:
    """A base model and a nudging model, open and ready. Threads may share it, each with its own stream.

    lm = NudgedLM.load("bundle/")
    for piece in lm.stream("Why is the sky blue?"):
        print(piece.text, end="")
    """

    def __init__(
        self,
        bundle: Bundle,
        models: Mapping[str, ModelSession],
        tokenizers: Mapping[str, Tokenizer],
        *,
        cache_mib: int = CACHE_MIB,
        slots: int = SLOTS,
        pass_rows: int = PASS_ROWS,
        memory: Callable[[ModelSession, Turns], RememberedRows[Any]] | None = None,
    ) -> None:
        """For models that were opened otherwise than by `load`: `open_models` takes what makes a session.

        `memory` makes what an answer reads a model through, once for each set of caches.
        """
        self.bundle = bundle
        """The bundle's folder and manifest."""
        self.load_seconds = 0.0
        """Seconds that `load` took."""
        self.models = models
        """The open session of each model, by role; none once it is closed."""
        self.tokenizers = tokenizers
        """The tokenizer of each model, by role; none once it is closed."""

        def memory_of(model: ModelSession, turns: Turns) -> RememberedRows[Any]:
            return RememberedRows(Decoder(model, turns, pass_rows))

        make = memory or memory_of
        records = bundle.manifest.models
        self._vocabularies = Vocabularies(tokenizers, {role: records[role].end_token_ids for role in tokenizers})
        self.slots = slots
        """Most answers that are written at a time."""
        self.scheduler = scheduler = Scheduler(slots)
        """Whose turn it is among answers on their way."""
        self._admission = Admission(slots, cache_mib << 20, lambda: scheduler.at_work)
        self.pool = CachePool(lambda: {role: make(model, scheduler) for role, model in models.items()}, cache_mib << 20)
        """The caches of answers on their way, and of conversations that may be gone on with."""

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        providers: Sequence[ProviderSpec] = ("cpu",),
        threads: int | None = None,
        cache_mib: int = CACHE_MIB,
        cache_dir: str | Path | None = None,
        slots: int = SLOTS,
        pass_rows: int = PASS_ROWS,
    ) -> NudgedLM:
        """Open a bundle.

        `providers` are execution providers in order of preference, by short name (`cpu`, `cuda`, `tensorrt`) or full
        name, alone or as `(name, options)`. `threads` per model (1 to 1,024), by default the cores. `cache_mib` bounds
        the KV caches: of answers on their way, of which those beyond it wait, and of conversations to come back to;
        those used last stay, whatever their size. `slots` (1 to 64) is how many answers are written at a time, the
        others wait; where `batches` says so they share passes. `pass_rows` (16 to 4,096) is the most tokens of a text
        in one pass, during which others wait; blocks of 128 of a prompt are read whole.
        `cache_dir` is a folder for what a provider prepares of the models (see docs/providers.md): later loads find it
        there, and processes on one machine share it.

        Raises `BundleError`, `ProviderError`, `RuntimeMissingError`, and `NudgeError` for an argument out of range.
        """
        start = time.perf_counter()
        threads = None if threads is None else integer("threads", threads, 1, _MOST_THREADS)
        cache_mib = integer("cache_mib", cache_mib, 0, _MOST_CACHE_MIB)
        slots = integer("slots", slots, 1, MOST_SLOTS)
        pass_rows = integer("pass_rows", pass_rows, 16, _MOST_PASS_ROWS)
        cache_folder = None if cache_dir is None else path("cache_dir", cache_dir)
        bundle = Bundle.open(path("folder", folder))
        models, tokenizers = open_models(bundle, providers, threads, cache_folder, several=slots > 1)
        lm = cls(bundle, models, tokenizers, cache_mib=cache_mib, slots=slots, pass_rows=pass_rows)
        lm.load_seconds = time.perf_counter() - start
        return lm

    @property
    def peak_memory(self) -> int | None:
        """Most bytes of physical memory that this process held so far; `None` where the system does not say."""
        return peak_memory()

    @property
    def providers(self) -> dict[str, str]:
        """The provider that each model runs on, by role."""
        return {role: model.provider for role, model in self.models.items()}

    @property
    def row_bits(self) -> dict[str, RowBits]:
        """Which passes give a row of logits the same bits where each model runs, by role.

        `all`, those of two rows or more (`pairs`: each pass has two at the least), or `none`: nothing is read ahead,
        and a prompt is read in blocks.
        """
        return {role: model.rows for role, model in self.models.items()}

    @property
    def batches(self) -> dict[str, bool]:
        """Whether answers on their way share passes of a model, by role; where they do not, they take turns."""
        return {role: model.batches and self.slots > 1 for role, model in self.models.items()}

    def stream(self, prompt: PromptLike, **options: Unpack[StreamOptions]) -> Stream:
        """Answer a prompt (one user message, or a list of chat messages) or go on from a `RawPrompt`, piece by piece.

        `StreamOptions` says what the options are, and what they are by default.

        Raises `NudgeError` for an option that is unknown or out of range, `ContextLengthError` for a prompt that does
        not fit, and while streaming `LogitsError` if a model returns no numbers.
        """
        settled = self._settled(options)
        prompts = self._prompts(prompt, settled)
        request = Request(self.bundle.manifest, settled, prompts, self.tokenizers, self._vocabularies)
        for role in prompts:
            request.bias(role)  # a token that a model has none for is said now, not while streaming
        timings = Timings(load=self.load_seconds)
        answering = Answering(request, timings, self.pool, self._admission, self.scheduler)
        counts = {role: len(found.ids) for role, found in prompts.items()}
        return Stream(answering.pieces(), timings, answering.cancellation, counts)

    def generate(self, prompt: PromptLike, **options: Unpack[StreamOptions]) -> Answer:
        """The whole answer at once; options and errors are those of `stream`."""
        with self.stream(prompt, **options) as stream:
            for _ in stream:
                pass
            return stream.answer

    def generate_batch(self, prompts: Iterable[PromptLike], **options: Unpack[StreamOptions]) -> list[Answer]:
        """The answers to many prompts, in their order, `slots` of them at a time; options are those of `stream`.

        Where models share passes (`batches`), each answer is to the last bit what `generate` returns for its prompt.
        A prompt that cannot be answered costs no other one its answer: its own has `finish_reason` `error`. Raises
        `NudgeError` for an option that is unknown or out of range, and if this `NudgedLM` is closed.
        """
        self._settled(options)

        def begin(prompt: PromptLike) -> Callable[[], Stream]:
            return lambda: self.stream(prompt, **options)

        return list(answers(map(begin, prompts), self.slots))

    def score(
        self,
        prompt: RawPrompt,
        *,
        role: str = "base",
        top: int = 0,
        control_tokens: ControlTokens = "allow",
        cancellation: Cancellation | None = None,
    ) -> list[TokenLogprobs | None]:
        """How probable one model finds a text: one entry a token of `raw_prompt(role, prompt)`, `None` for the first.

        `top` (0 to 20) is how many of the most probable tokens each entry has. `cancellation` ends it before the next
        pass from another thread. Raises `NudgeError`, `ContextLengthError`, `LogitsError`.
        """
        top = integer("top", top, 0, MOST_LOGPROBS)

        def row(logits: Logits, token: int) -> TokenLogprobs:
            return token_logprobs(Softmax(logits, role), token, top)

        return self.read(prompt, row, role=role, control_tokens=control_tokens, cancellation=cancellation)

    def read(
        self,
        prompt: RawPrompt,
        row: Callable[[Logits, int], Row],
        *,
        role: str = "base",
        control_tokens: ControlTokens = "allow",
        cancellation: Cancellation | None = None,
    ) -> list[Row | None]:
        """What `row(logits, token)` says of each token of a text, `None` for the first; see `score`.

        `logits` are one model's raw logits before the token, float32 `[vocabulary]`, and may be overwritten after the
        call.
        """
        self._check_open()
        role = one_of("role", role, tuple(self.models))
        if not isinstance(prompt, RawPrompt):
            raise must_be("prompt", "a RawPrompt", prompt)
        ids = self.raw_prompt(role, prompt, control_tokens).ids
        scoring = Scoring(role, ids, row, self.pool, self._admission, self.scheduler, cancellation or Cancellation())
        return scoring.rows(most_bytes(self.bundle.manifest.models[role], len(ids)))

    def close(self) -> None:
        """Free the sessions and caches; streams on their way may end, and free theirs then. New ones are refused."""
        self.models = {}
        self.tokenizers = {}
        self._vocabularies = Vocabularies({}, {})
        self.pool.close()
        self.scheduler.close()
        return_freed_memory()

    def _settled(self, options: StreamOptions) -> AnswerOptions:
        self._check_open()
        return AnswerOptions.of(self.bundle.manifest, options)

    def _check_open(self) -> None:
        if not self.models:
            raise NudgeError("this NudgedLM is closed; load the bundle again")

    def __enter__(self) -> NudgedLM:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def prompt(self, role: str, messages: Sequence[Message], control_tokens: ControlTokens = "allow") -> PromptIds:
        """What a model reads before an answer: `prompt(role, messages).ids` are its ids.

        Raises `NudgeError` for an empty prompt and `ContextLengthError` for one that does not fit.
        """
        record = self.bundle.manifest.models[role].prompt
        return self._fitting(role, prompt_ids(record, messages, self.tokenizers[role], role, control_tokens))

    def raw_prompt(
        self, role: str, prompt: RawPrompt, control_tokens: ControlTokens = "allow", ids_of: str | None = None
    ) -> PromptIds:
        """What a model reads of a text without a template; ids are those of the model `ids_of`, by default its own.

        Raises `NudgeError` for an empty prompt or an id that there is none of, and `ContextLengthError`.
        """
        manifest, tokenizer = self.bundle.manifest, self.tokenizers[role]
        ids_of = ids_of or role
        if prompt.ids is not None and (role == ids_of or manifest.shared_vocabulary):
            return self._fitting(role, PromptIds(tokenizer, "", False, ids=prompt.ids))
        text = prompt.text_of(self.tokenizers[ids_of])
        found = raw_prompt_ids(manifest.models[role].prompt, text, tokenizer, role, control_tokens)
        return self._fitting(role, found)

    def _prompts(self, prompt: PromptLike, options: AnswerOptions) -> dict[str, PromptIds]:
        """What each model reads that takes part."""
        roles, control_tokens = ROLES_OF_MODE[options.mode], options.control_tokens
        if isinstance(prompt, RawPrompt):
            return {role: self.raw_prompt(role, prompt, control_tokens, ids_of=roles[0]) for role in roles}
        messages = as_messages(prompt, options.system_prompt)
        return {role: self.prompt(role, messages, control_tokens) for role in roles}

    def _fitting(self, role: str, prompt: PromptIds) -> PromptIds:
        model = self.bundle.manifest.models[role]
        if not prompt.ids:
            raise NudgeError(f"the prompt of the {role} model is empty; write something")
        if len(prompt.ids) >= model.context_length - 1:
            raise ContextLengthError(
                f"the prompt has {len(prompt.ids)} tokens and the {role} model's context is {model.context_length}; "
                "shorten the prompt or the conversation"
            )
        return prompt
