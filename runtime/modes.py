"""Who writes an answer: one function for each mode."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from nudge_onnx.bundle import Manifest
from nudge_onnx.choices import Mode

from .choosing.bias import TokenBias, translated
from .choosing.choosers import Chooser, HeadChooser
from .choosing.gates import Gate, head_gate, top1
from .choosing.grammar import Vocabularies
from .choosing.pair_gates import bet
from .inference.outputs import has_head, has_wide_head
from .inference.pool import Memories
from .nudging.baselines import Mix, alone, ensemble, mixed, proxy_tuning
from .nudging.draft import token_hand_overs, word_hand_overs
from .nudging.loop import NudgingLoop, Pieces
from .nudging.ngram import NGramGuesser
from .nudging.participant import IdParticipant, Participant
from .nudging.speculation import Speculation
from .nudging.transcript import Transcript
from .options import AnswerOptions
from .text.prompt import PromptIds
from .text.tokenizer import Tokenizer

__all__ = ["WRITTEN", "Request"]


@dataclass(frozen=True)
class Request:
    """What is to be answered and how."""

    manifest: Manifest
    options: AnswerOptions
    prompts: Mapping[str, PromptIds]
    """Of the models that take part, by role."""
    tokenizers: Mapping[str, Tokenizer]
    """By role."""
    vocabularies: Vocabularies
    """Of what grammars are matched with."""

    def ends(self, role: str) -> frozenset[int]:
        """The ids that end what a model writes."""
        return frozenset(self.manifest.models[role].end_token_ids)

    def bias(self, role: str) -> TokenBias | None:
        """What is added to the logits of a model. Raises `NudgeError` for a token that it has none for."""
        bias = self.options.logit_bias
        if not bias:
            return None
        own = "nudge" if self.options.mode == "nudge" else "base"
        models = [(self.tokenizers[one], self.manifest.models[one].end_token_ids) for one in (own, role)]
        if self.manifest.shared_vocabulary:
            models[1] = models[0]
        return TokenBias.of(translated(bias, *models))

    def chooser(self, role: str) -> Chooser:
        """What chooses the tokens of a model."""
        options, prompt = self.options, self.prompts[role]
        grammar = options.grammar
        matcher = self.vocabularies.matcher(grammar, role, prompt) if grammar else None
        return Chooser(
            role,
            options.sampling_of(role),
            self._gate(role),
            options.gamma,
            len(prompt.ids),
            self.bias(role),
            matcher,
            options.logprobs,
            options.gate_temperature if self._gated(role) else 1.0,
            self._stops_by_entropy(role),
        )

    def head_chooser(self, role: str) -> HeadChooser | None:
        """What chooses the tokens of a model by its uncertainty head, if what that says is enough."""
        options, record = self.options, self.manifest.models[role]
        steered = options.logit_bias or options.grammar or options.logprobs is not None
        scaled = self._gated(role) and options.gate_temperature != 1.0
        gate = head_gate(self._gate(role))
        if gate is None or steered or scaled or not options.sampling_of(role).greedy or not has_head(record.io):
            return None
        if (gate is not top1 or self._stops_by_entropy(role)) and not has_wide_head(record.io):
            return None
        return HeadChooser(role, gate, options.gamma, record.vocabulary_size)

    def _gated(self, role: str) -> bool:
        """Whether the gate is asked of a model; else any one will do."""
        return role == "base" and self.options.mode == "nudged"

    def _gate(self, role: str) -> Gate:
        return self.options.gate_function if self._gated(role) else top1

    def _stops_by_entropy(self, role: str) -> bool:
        return role == "nudge" and self.options.mode == "nudged" and self.options.speculation == "entropy"

    def transcript(self) -> Transcript:
        """An answer of which nothing is written."""
        return Transcript(self.options.max_new_tokens)


def nudged(request: Request, memories: Memories) -> Pieces:
    """The base model writes, and the nudging model where that is not certain."""
    options = request.options
    base, nudge = _participant(request, "base", memories), _participant(request, "nudge", memories)
    # Two vocabularies share no noise: sampled drafts would almost never be what the base model draws.
    drafts = request.manifest.shared_vocabulary or all(options.sampling_of(role).greedy for role in ("base", "nudge"))
    ahead = Speculation(options.speculation if base.reads_ahead else "off", base.costs, nudge.costs, drafts)
    if options.speculation != "off" and nudge.reads_ahead:
        nudge.guess_with(NGramGuesser(nudge.costs))
    hand_overs = token_hand_overs if options.policy == "token" else word_hand_overs
    asks_both = bet(options.gamma) if options.gate == "bet" else None
    return NudgingLoop(
        base, nudge, request.transcript(), hand_overs, options.draft_tokens, ahead, options.tail, asks_both
    ).run()


def base_alone(request: Request, memories: Memories) -> Pieces:
    """The base model writes all of it."""
    return alone(_participant(request, "base", memories), "base", request.transcript())


def nudge_alone(request: Request, memories: Memories) -> Pieces:
    """The nudging model writes all of it."""
    return alone(_participant(request, "nudge", memories), "nudge", request.transcript())


def averaged(request: Request, memories: Memories) -> Pieces:
    """Base and nudging model choose each token by the mean of their distributions."""
    return _together(request, memories, ensemble)


def proxy_tuned(request: Request, memories: Memories) -> Pieces:
    """The base model with what tuning changed in the nudging model, against the untuned `proxy_base`."""
    return _together(request, memories, proxy_tuning)


WRITTEN: Mapping[Mode, Callable[[Request, Memories], Pieces]] = {
    "nudged": nudged,
    "base": base_alone,
    "nudge": nudge_alone,
    "ensemble": averaged,
    "proxy-tuning": proxy_tuned,
}
"""What writes an answer once the prompts are in the caches, by mode."""


def _together(request: Request, memories: Memories, mix: Mix) -> Pieces:
    for role in request.prompts:
        memories[role].start(lambda logits, _ids, _end: logits.copy())
    models = [(memories[role], prompt) for role, prompt in request.prompts.items()]
    ends = request.ends("base") | request.ends("nudge")
    return mixed(models, mix, ends, request.tokenizers["base"].bytes_of, request.transcript())


def _participant(request: Request, role: str, memories: Memories) -> Participant:
    options, memory, prompt = request.options, memories[role], request.prompts[role]
    by_head = request.head_chooser(role)
    if by_head:
        memory.start_with_head(by_head)
    else:
        memory.start(request.chooser(role))
    kind = IdParticipant if options.policy == "token" else Participant
    return kind(memory, prompt, request.tokenizers[role], request.ends(role))
