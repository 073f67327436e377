"""Who writes an answer: one function for each mode."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from nudge_onnx.bundle import Manifest
from nudge_onnx.choices import Mode

from .choosing.bias import TokenBias, translated
from .choosing.choosers import Chooser, HeadChooser
from .choosing.gates import top1
from .choosing.grammar import Vocabularies
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
        sampling, gate = options.sampling_of(role), options.gate_function
        return Chooser(role, sampling, gate, options.gamma, len(prompt.ids), self.bias(role), matcher, options.logprobs)

    def by_head(self, role: str) -> bool:
        """Whether what the uncertainty head says is enough to choose by."""
        options = self.options
        steered = options.logit_bias or options.grammar or options.logprobs is not None
        return options.gate_function is top1 and options.sampling_of(role).greedy and not steered

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
    return NudgingLoop(base, nudge, request.transcript(), hand_overs, options.draft_tokens, ahead).run()


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
    if memory.decoder.has_head and request.by_head(role):
        memory.start_with_head(HeadChooser(role, options.gamma))
    else:
        memory.start(request.chooser(role))
    kind = IdParticipant if options.policy == "token" else Participant
    return kind(memory, prompt, request.tokenizers[role], request.ends(role))
