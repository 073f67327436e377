"""A bundle as a model of lm-eval (EleutherAI's lm-evaluation-harness)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.api.registry import register_model
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from nudge_onnx.choices import Mode
from nudge_onnx.errors import NudgeError
from nudge_onnx.runtime.choosing.sampling import Sampling
from nudge_onnx.runtime.lm import NudgedLM, PromptLike
from nudge_onnx.runtime.many import answers
from nudge_onnx.runtime.nudging.results import Answer
from nudge_onnx.runtime.stream import Stream
from nudge_onnx.runtime.text.prompt import RawPrompt

__all__ = ["Harness"]

_MOST_TOKENS = 512


class _Chat(str):
    """Messages on their way through lm-eval, which hands on texts."""

    messages: list[dict[str, str]]

    @classmethod
    def of(cls, messages: Sequence[Mapping[str, str]]) -> _Chat:
        chat = cls(json.dumps(list(messages), ensure_ascii=False))
        chat.messages = [{"role": one["role"], "content": one["content"]} for one in messages]
        return chat


@register_model("nudge-onnx")
class Harness(LM):  # type: ignore[misc]
    """Answers by any mode; log-likelihoods by one model alone, `base` or `nudge`.

    With lm-eval's chat templates, prompts are messages, and each model renders them with its own template. Without,
    both models read them as they stand.
    """

    def __init__(
        self,
        bundle: str | NudgedLM,
        mode: Mode = "nudged",
        progress: Callable[[Answer], None] = lambda _answer: None,
        add_bos_token: bool = True,
        batch_size: object = None,  # noqa: ARG002
        max_batch_size: object = None,  # noqa: ARG002
        device: object = None,  # noqa: ARG002
        **options: Any,
    ) -> None:
        """`bundle` is a folder or open; `options` are keyword arguments of `NudgedLM.stream`.

        `progress` hears of each answer. Before a prompt that is a text stands what its tokenizer puts there (BOS),
        unless `add_bos_token` is false. lm-eval gives `batch_size` and `device` to every model; here the bundle's slots
        and providers say that. Raises what `NudgedLM.load` raises.
        """
        super().__init__()
        self.lm = bundle if isinstance(bundle, NudgedLM) else NudgedLM.load(bundle)
        self._mode: Mode = mode
        self._progress = progress
        self._add_bos = add_bos_token
        self._options = options

    @property
    def tokenizer_name(self) -> str:
        """Names the templates, for lm-eval's caches."""
        return self.lm.bundle.manifest.name

    def apply_chat_template(
        self,
        chat_history: list[dict[str, str]],
        add_generation_prompt: bool = True,  # noqa: ARG002  (a last message of the assistant is gone on with)
    ) -> str:
        """The messages, for `generate_until` and `loglikelihood` to render."""
        return _Chat.of(chat_history)

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:  # noqa: ARG002
        """Answers to (context, generation arguments), several at a time."""
        begin = [self._begin(*request.args) for request in requests]
        texts = []
        with closing(answers(begin, self.lm.slots)) as written:
            for number, answer in enumerate(written, 1):
                if answer.error is not None:
                    raise NudgeError(f"request {number} cannot be answered: {answer.error}")
                self._progress(answer)
                texts.append(answer.text)
        return texts

    def _begin(self, context: str, arguments: Mapping[str, Any]) -> Callable[[], Stream]:
        prompt: PromptLike
        if isinstance(context, _Chat):
            prompt = context.messages
        elif self._add_bos:
            prompt = RawPrompt(context)
        else:
            prompt = RawPrompt(ids=self._encode("nudge" if self._mode == "nudge" else "base", context))
        until = arguments.get("until") or []
        stops = [one for one in ([until] if isinstance(until, str) else until) if one]
        temperature = float(arguments.get("temperature", 0.0)) if arguments.get("do_sample", True) else 0.0
        most = int(arguments.get("max_gen_toks", arguments.get("max_tokens", _MOST_TOKENS)))
        options: dict[str, Any] = {"mode": self._mode, "stop": stops, "max_new_tokens": most, **self._options}
        if temperature:
            options["sampling"] = Sampling(temperature=temperature, top_p=float(arguments.get("top_p", 1.0)))
        return lambda: self.lm.stream(prompt, **options)

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:  # noqa: ARG002
        """Log-probability of each (context, continuation), and whether it is the greedy one."""
        role = self._role()
        return [self._likelihood(role, *self._pair(role, *request.args)) for request in requests]

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:  # noqa: ARG002
        """Log-probability of whole texts, in windows of the context where they are longer."""
        role = self._role()
        return [self._rolling(role, *request.args) for request in requests]

    def _role(self) -> str:
        if self._mode not in ("base", "nudge"):
            raise NudgeError(
                f"mode {self._mode!r} gives texts no probability, since two models write them in turns; "
                "score one model, with mode base or nudge"
            )
        return self._mode

    def _pair(self, role: str, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """Ids of a context and of what follows it, encoded together as lm-eval does it."""
        if isinstance(context, _Chat):
            prompt = self.lm.prompt(role, context.messages)
            return prompt.ids, prompt.encode(continuation)[len(prompt.ids) :]
        blanks = len(context) - len(context.rstrip())
        if blanks:
            context, continuation = context[:-blanks], context[-blanks:] + continuation
        if not context:
            return self._first(role), self._encode(role, continuation)
        whole, start = self._encode(role, context + continuation), self._encode(role, context)
        if self._add_bos:
            bos = self.lm.tokenizers[role].encode_prompt("", True)[0]
            whole, start = bos + whole, bos + start
        return whole[: len(start)], whole[len(start) :]

    def _encode(self, role: str, text: str) -> list[int]:
        return self.lm.tokenizers[role].encode_prompt(text, False)[0]

    def _first(self, role: str) -> list[int]:
        """What the tokenizer puts before a text, or else the end token, which texts stand behind in training."""
        record = self.lm.bundle.manifest.models[role]
        return self.lm.tokenizers[role].encode_prompt("", True)[0] or list(record.end_token_ids[:1])

    def _likelihood(self, role: str, context: list[int], continuation: list[int]) -> tuple[float, bool]:
        most = self.lm.bundle.manifest.models[role].context_length - 2
        ids = (context + continuation)[-most:]
        found = self.lm.score(RawPrompt(ids=ids), role=role, top=1)[-len(continuation) :]
        known = [one for one in found if one is not None]
        return sum(one.logprob for one in known), all(one.top[0][0] == one.token_id for one in known)

    def _rolling(self, role: str, text: str) -> float:
        most = self.lm.bundle.manifest.models[role].context_length - 2
        windows = get_rolling_token_windows(
            self._encode(role, text), self._first(role)[-1], max_seq_len=most - 1, context_len=1
        )
        return sum(self._likelihood(role, *map(list, make_disjoint_window(window)))[0] for window in windows)
