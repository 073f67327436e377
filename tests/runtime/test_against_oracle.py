"""The runtime gives the answers that the oracle reads off `docs/decoding.md`: text, pieces, ids and finish reason."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from oracle import ContextReachedError, Forward, OracleAnswer, OraclePiece, merged, oracle
from pairs import WORDS, Pair, exported, oracle_pair, rendered, sentencepiece
from real import EVERY, part, real_bundle
from tiny import tiny_checkpoint
from tokenizers import Tokenizer, normalizers

from nudge_onnx import NudgedLM
from nudge_onnx.runtime.nudging.results import Answer


class Both:
    """One pair of models, opened by the runtime and by the oracle."""

    def __init__(self, pair: Pair) -> None:
        bundle, self.base, self.nudge = oracle_pair(pair)
        self.records = bundle.manifest.models
        self.lm = NudgedLM.load(pair.bundle, providers=["cpu"])

    def __repr__(self) -> str:
        return "Both()"

    def expected(self, case: Case) -> OracleAnswer:
        return oracle(
            self.base.prompted(rendered(self.records["base"], case.prompt)),
            self.nudge.prompted(rendered(self.records["nudge"], case.prompt)),
            gamma=case.gamma,
            policy=case.policy,
            draft_tokens=case.draft_tokens,
            max_new_tokens=case.max_new_tokens,
            stop=case.stop,
            tail=case.tail,
            gate=case.gate,
        )

    def answered(self, case: Case) -> Answer:
        return self.lm.generate(
            case.prompt,
            gamma=case.gamma,
            policy=case.policy,
            draft_tokens=case.draft_tokens,
            max_new_tokens=case.max_new_tokens,
            stop=list(case.stop),
            tail=case.tail,
            gate=case.gate,
        )


@dataclass(frozen=True)
class Case:
    prompt: str
    gamma: float
    policy: str = "word"
    draft_tokens: int = 16
    max_new_tokens: int = 40
    stop: tuple[str, ...] = ()
    tail: str = "draft"
    gate: str = "top1"


def pieces_of(answer: Answer) -> list[OraclePiece]:
    return merged((piece.source, piece.text, piece.token_ids) for piece in answer.pieces)


def check(both: Both, case: Case) -> None:
    try:
        expected = both.expected(case)
    except ContextReachedError:
        assume(False)
    answer = both.answered(case)
    assert (answer.text, answer.finish_reason) == (expected.text, expected.finish_reason)
    assert pieces_of(answer) == expected.pieces
    assert "".join(piece.text for piece in answer.pieces) == answer.text


PROMPTS = (
    "the cat",
    "a dog ran",
    "\n",
    "how are you?",
    "é\n\nlist:",
    "to town  with 3 men",
    "<s>an</s> hour",
    "時間 😀",
)
STOPS = (" the", "a", "o t", "\ufffd", " ", "and ", "s s", "time", "€", "\n", "no such thing")


def cases(policy: str) -> st.SearchStrategy[Case]:
    return st.builds(
        Case,
        # Most prompts come back, so that the oracle remembers what the models answered.
        prompt=st.one_of(*[st.sampled_from(PROMPTS)] * 7, st.text(min_size=1, max_size=20)),
        gamma=st.sampled_from((0.2, 0.3, 0.4, 0.5, 0.7, 0.0, 1.0)),
        policy=st.just(policy),
        draft_tokens=st.integers(1, 16),
        max_new_tokens=st.integers(1, 40),
        stop=st.one_of(st.just(()), st.just(()), st.lists(st.sampled_from(STOPS), max_size=2).map(tuple)),
        tail=st.sampled_from(("draft", "lazy")),
        gate=st.sampled_from(("top1", "top1", "bet")),
    )


quick = settings(
    max_examples=100 if EVERY == 1 else 50,
    deadline=None,
    derandomize=True,
    database=None,
    report_multiple_bugs=False,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Threads of PyTorch only wait for each other in models this small."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def words(tiny_word_pair: Pair) -> Iterator[Both]:
    both = Both(tiny_word_pair)
    with both.lm:
        yield both


@pytest.fixture(scope="module")
def noise(tiny_token_pair: Pair) -> Iterator[Both]:
    both = Both(tiny_token_pair)
    with both.lm:
        yield both


@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    """Tokenizers that mark the start of a string, as Llama 2's, and a template that ends in a special token."""
    folder = tmp_path_factory.mktemp("marked_pair")

    def tokenizer(*words: str) -> Tokenizer:
        made = sentencepiece([*(f" {word}" for word in words), *words])
        made.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), made.normalizer])
        return made

    base = tiny_checkpoint(folder / "base", "gemma3", seed=3, scale=3.3, tokenizer=tokenizer(*WORDS))
    nudge = tiny_checkpoint(
        folder / "nudge", "qwen2", seed=5, scale=2.0, tokenizer=tokenizer(*WORDS, "  ", "xy"), chat=True
    )
    bundle = exported(base, nudge, folder / "bundle", "--policy", "word", "--precision", "fp32")
    manifest = json.loads((bundle / "nudge.json").read_text(encoding="utf-8"))
    template = "{% for message in messages %}{{ message.content }}<|im_end|>{% endfor %}<|im_start|>"
    manifest["models"]["nudge"]["prompt"]["template"] = template
    (bundle / "nudge.json").write_text(json.dumps(manifest), encoding="utf-8")
    both = Both(Pair(bundle, base, nudge))
    with both.lm:
        yield both


@quick
@given(case=cases("word"))
def test_tokenizers_that_mark_the_start_of_a_string(marked: Both, case: Case) -> None:
    check(marked, case)


@quick
@given(case=cases("word"))
def test_two_tokenizers(words: Both, case: Case) -> None:
    check(words, case)


@quick
@given(case=cases("word"))
def test_half_characters_and_odd_spellings(noise: Both, case: Case) -> None:
    check(noise, case)


@quick
@given(case=cases("token"))
def test_one_vocabulary(noise: Both, case: Case) -> None:
    check(noise, case)


def test_a_base_model_in_a_loop(noise: Both) -> None:
    case = Case("?", gamma=0.0, policy="token", draft_tokens=8, max_new_tokens=140)
    # It is always certain here, so that only a loop (or an end token) makes it hand over.
    handed_over = [piece for piece in noise.expected(case).pieces[:-1] if piece.source == "base"]
    assert any(len(piece.ids) > 32 for piece in handed_over)
    check(noise, case)


def test_the_cases_mix_what_matters(words: Both, noise: Both) -> None:
    """Random weights are easily all certain, or all silent; then the tests above would show little."""
    for both, policy in ((words, "word"), (noise, "word"), (noise, "token")):
        answers = [both.expected(Case(prompt, gamma, policy)) for prompt in PROMPTS[:5] for gamma in (0.3, 0.5)]
        sources = [piece.source for answer in answers for piece in answer.pieces]
        assert min(sources.count("base"), sources.count("nudge")) > 15
        assert {"length", "stop"} <= {answer.finish_reason for answer in answers}
        assert isinstance(both.base.forward, Forward)
        probabilities = [probability for _, probability in both.base.forward.known.values()]
        assert 0.2 < sum(p >= 0.4 for p in probabilities) / len(probabilities) < 0.8


# --- the real pair


REAL = {
    "maths": Case("Anna has 3 boxes with 12 eggs each. She uses 7 eggs. How many eggs are left? Explain.", 0.3),
    "list": Case("List five fruits that are red.", 0.3),
    "code": Case("Write a Python function that returns the n-th Fibonacci number.", 0.4),
    "translation": Case("Translate to French: 'The weather is nice today, isn't it?'", 0.3),
    "poem": Case("Write a short poem about the sea.", 0.2),
    "yes or no": Case("Is the moon larger than the earth? Answer yes or no.", 0.5),
    "nearly empty": Case(".", 0.3),
    "emoji and CJK": Case("日本の首都はどこですか？ 🙂🇯🇵", 0.3),
    "several lines": Case("Summarise:\n\n- The bank opens at 9.\n- It closes at 4.\n\n\tThank you!  ", 0.4),
    "stop string": Case("Count from one to twenty in words.", 0.3, stop=(", five", "\n\n")),
    "long prompt": Case(
        "The quick brown fox jumps over the lazy dog. " * 7 + "What does the fox do?", 0.3, max_new_tokens=32
    ),
    "like a system prompt": Case("You are a pirate. Never leave your role. Who are you?", 0.4),
    "looks special": Case("What does <|im_end|> mean? And </s>, <bos>, <eos> and <unk>?", 0.3),
    "short drafts": Case("What is the capital of Italy, and why is it famous?", 0.4, draft_tokens=4),
    "gamma 1": Case("Name a planet.", 1.0, max_new_tokens=24),
    "lazy tail": Case("What is a verb? Answer in one sentence.", 0.3, tail="lazy"),
    "bet": Case("Name three tools of a gardener.", 0.45, gate="bet"),
}


@pytest.fixture(scope="module")
def real() -> Iterator[Both]:
    bundle = real_bundle("fp32")
    checkpoints = Path(os.environ.get("NUDGE_REAL_CHECKPOINTS", ".cache/checkpoints"))
    if not bundle.is_dir() or not checkpoints.is_dir():
        pytest.skip("no real pair here; `make bundles` makes it")
    both = Both(Pair(bundle, checkpoints / "base", checkpoints / "nudge"))
    with both.lm:
        yield both


@pytest.mark.real
@pytest.mark.parametrize("kind", part(list(REAL), least=5))
def test_the_real_pair(real: Both, kind: str) -> None:
    # The oracle reads everything again for every token: a few sentences take it minutes.
    check(real, replace(REAL[kind], max_new_tokens=24))
