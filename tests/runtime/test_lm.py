"""The public face, on tiny pairs that were exported for real."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pairs import Pair, exported

from nudge_onnx import Answer, NudgedLM
from nudge_onnx.errors import BundleError, ContextLengthError, NudgeError, ProviderError
from nudge_onnx.runtime.choosing.gates import Softmax
from nudge_onnx.runtime.choosing.sampling import Sampling
from nudge_onnx.runtime.inference.decoder import Decoder


@pytest.fixture(scope="module")
def lm(tiny_word_pair: Pair) -> Iterator[NudgedLM]:
    with NudgedLM.load(tiny_word_pair.bundle) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def token_lm(tiny_token_pair: Pair) -> Iterator[NudgedLM]:
    with NudgedLM.load(tiny_token_pair.bundle) as loaded:
        yield loaded


def outcome(answer: Answer) -> tuple[object, ...]:
    return answer.text, answer.pieces, answer.finish_reason


def written(answer: Answer) -> tuple[object, ...]:
    """An answer without its probabilities."""
    return answer.text, [(piece.source, piece.token_ids) for piece in answer.pieces], answer.finish_reason


def test_a_stream_is_the_answer_in_pieces(lm: NudgedLM) -> None:
    whole = lm.generate("the cat", max_new_tokens=40)
    stream = lm.stream("the cat", max_new_tokens=40)
    pieces = list(stream)
    assert "".join(piece.text for piece in pieces) == whole.text
    assert outcome(stream.answer) == outcome(whole)
    assert sum(whole.tokens.values()) == sum(len(piece.token_ids) for piece in pieces) <= 40
    assert 0 < whole.nudging_ratio <= 1
    assert whole.timings.load > 0
    assert whole.timings.decode > 0


def test_closing_a_stream_cancels_it_and_leaves_usable_caches(token_lm: NudgedLM) -> None:
    prompt, whole = next(
        (prompt, answer)
        for prompt in ("the dog", "a man", "hello", "no time", "x")
        if len((answer := token_lm.generate(prompt, max_new_tokens=40)).pieces) > 4
    )
    for stop_after in range(1, 5):
        with token_lm.stream(prompt, max_new_tokens=40) as stream:
            pieces = list(islice(stream, stop_after))
        assert stream.answer.finish_reason == "cancelled"
        assert list(whole.pieces[:stop_after]) == pieces
        assert outcome(token_lm.generate(prompt, max_new_tokens=40)) == outcome(whole)


def fed_for_a_prompt(lm: NudgedLM, prompt: object, mode: str = "base") -> int:
    """Tokens that a model is fed before the first token of its answer."""
    return lm.generate(prompt, mode=mode, max_new_tokens=1).timings.fed[mode]  # type: ignore[arg-type]


def test_a_prompt_that_a_cache_holds_costs_one_row(tiny_word_pair: Pair) -> None:
    with NudgedLM.load(tiny_word_pair.bundle) as lm:
        assert fed_for_a_prompt(lm, "a man ran to town " * 6) > 16
        assert fed_for_a_prompt(lm, "a man ran to town " * 6) == 1


@pytest.mark.parametrize("mode", ["base", "nudge"])
def test_a_turn_of_a_conversation_feeds_only_what_is_new(tiny_token_pair: Pair, mode: str) -> None:
    with NudgedLM.load(tiny_token_pair.bundle) as lm:
        history = [{"role": "user", "content": "the cat sat on the mat and the dog ran to town " * 6}]
        first = fed_for_a_prompt(lm, history, mode)
        answer = lm.generate(history, mode="nudged", max_new_tokens=12)
        history += [{"role": "assistant", "content": answer.text}, {"role": "user", "content": "and then"}]
        assert fed_for_a_prompt(lm, history, mode) < first / 2
        # Editing the last question rewinds to what is still the same.
        assert fed_for_a_prompt(lm, [*history[:-1], {"role": "user", "content": "so what"}], mode) < first / 2


def test_two_conversations_alternate_without_reading_their_past_again(tiny_word_pair: Pair) -> None:
    one, other = "the cat sat on the mat " * 6, "old men ran to town for an hour " * 6
    with NudgedLM.load(tiny_word_pair.bundle) as lm:
        assert fed_for_a_prompt(lm, one) > 20
        assert fed_for_a_prompt(lm, other) > 20
        assert [fed_for_a_prompt(lm, one), fed_for_a_prompt(lm, other)] == [1, 1]
    with NudgedLM.load(tiny_word_pair.bundle, cache_mib=0) as lm:
        first = fed_for_a_prompt(lm, one)
        fed_for_a_prompt(lm, other)
        # Without memory for two, the second conversation took the first one's cache.
        assert fed_for_a_prompt(lm, one) > first / 2


def test_threads_share_a_model_each_with_its_own_stream(lm: NudgedLM) -> None:
    prompts = ["the cat", "a dog ran", "old men", "no time at all"]
    expected = {prompt: outcome(lm.generate(prompt, max_new_tokens=24)) for prompt in prompts}
    results: dict[str, object] = {}

    def work(prompt: str) -> None:
        results[prompt] = outcome(lm.generate(prompt, max_new_tokens=24))

    threads = [threading.Thread(target=work, args=(prompt,)) for prompt in prompts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == expected


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    prompt=st.text("abcdeft .\n€", min_size=1, max_size=20),
    gamma=st.sampled_from([0.1, 0.3, 0.5, 0.8]),
    draft_tokens=st.integers(1, 20),
    policy=st.sampled_from(["word", "token"]),
    ahead=st.sampled_from(["auto", 1, 4, 16]),
)
def test_speculation_gives_the_same_ids_sources_and_ends(
    token_lm: NudgedLM, prompt: str, gamma: float, draft_tokens: int, policy: str, ahead: str | int
) -> None:
    options = {"gamma": gamma, "draft_tokens": draft_tokens, "policy": policy, "max_new_tokens": 40}
    plain = token_lm.generate(prompt, speculation="off", **options)
    assert outcome(token_lm.generate(prompt, speculation=ahead, **options)) == outcome(plain)


@pytest.mark.parametrize("policy", ["word", "token"])
def test_a_seed_gives_one_answer_with_and_without_speculation(token_lm: NudgedLM, policy: str) -> None:
    options = {"policy": policy, "max_new_tokens": 40, "sampling": Sampling(temperature=0.8, top_p=0.95, seed=11)}
    plain = token_lm.generate("the cat", speculation="off", **options)
    assert outcome(token_lm.generate("the cat", speculation=8, **options)) == outcome(plain)
    other = token_lm.generate("the cat", **{**options, "sampling": Sampling(temperature=0.8, top_p=0.95, seed=12)})
    assert other.text != plain.text


def test_each_model_may_sample_in_its_own_way(lm: NudgedLM) -> None:
    greedy = lm.generate("the cat", mode="base", max_new_tokens=20)
    mixed = lm.generate("the cat", mode="base", max_new_tokens=20, nudge_sampling=Sampling(temperature=2))
    assert outcome(mixed) == outcome(greedy)


def test_gamma_and_gate_decide_who_writes(token_lm: NudgedLM) -> None:
    def never(_softmax: Softmax, _gamma: float) -> bool:
        return False

    prompts = ("the cat", "a dog", "x", "no time")
    eager = [token_lm.generate(prompt, gamma=0.0, max_new_tokens=40).tokens["base"] for prompt in prompts]
    shy = [token_lm.generate(prompt, gate=never, max_new_tokens=40).tokens["base"] for prompt in prompts]
    assert sum(eager) > sum(shy)
    seen: list[float] = []

    def spy(softmax: Softmax, gamma: float) -> bool:
        seen.append(gamma)
        return softmax.top1 >= gamma

    spied = token_lm.generate("the cat", gate=spy, gamma=0.25, max_new_tokens=30)
    named = token_lm.generate("the cat", gamma=0.25, max_new_tokens=30)
    assert set(seen) == {0.25}
    assert written(spied) == written(named)
    # A callable reads logits, and the gate by name what the graph's head says: the same to rounding.
    assert [p for piece in spied.pieces for p in piece.top1] == pytest.approx(
        [p for piece in named.pieces for p in piece.top1], rel=1e-5
    )


def test_the_head_and_the_logits_give_the_same_answer(lm: NudgedLM, token_lm: NudgedLM) -> None:
    # A temperature this low draws the arg-max, but from logits.
    frozen = Sampling(temperature=1e-6)
    for model in (lm, token_lm):
        for prompt in ("the cat", "a dog ran", "x", "no time at all"):
            for mode in ("nudged", "base", "nudge"):
                by_head = model.generate(prompt, mode=mode, max_new_tokens=30)
                by_logits = model.generate(prompt, mode=mode, sampling=frozen, max_new_tokens=30)
                assert written(by_head) == written(by_logits)


@pytest.mark.parametrize("role", ["base", "nudge"])
@pytest.mark.parametrize("prompt", ["the cat", "a dog ran", "x"])
def test_one_model_alone_is_its_greedy_answer(lm: NudgedLM, role: str, prompt: str) -> None:
    decoder, record = Decoder(lm.models[role]), lm.bundle.manifest.models[role]
    token = int(decoder.prefill(lm.prompt(role, [{"role": "user", "content": prompt}]).ids)[-1].argmax())
    expected: list[int] = []
    while token not in record.end_token_ids and len(expected) < 20:
        expected.append(token)
        token = int(decoder.feed([token])[-1].argmax())
    answer = lm.generate(prompt, mode=role, max_new_tokens=20)  # type: ignore[arg-type]
    assert {piece.source for piece in answer.pieces} <= {role}
    assert [token for piece in answer.pieces for token in piece.token_ids] == expected
    assert answer.finish_reason == ("length" if len(expected) == 20 else "stop")


@pytest.mark.usefixtures("tiny_token_pair")
def test_an_ensemble_of_a_model_and_itself_is_that_model(token_lm: NudgedLM) -> None:
    answer = token_lm.generate("the cat", mode="ensemble", max_new_tokens=20)
    assert all(0 < value <= 1 for piece in answer.pieces for value in piece.top1 if value is not None)
    from nudge_onnx.runtime.nudging.baselines import ensemble, proxy_tuning

    row = np.array([0.1, 2.0, -1.0], np.float32)
    assert ensemble([row, row])[0] == 1
    assert proxy_tuning([row, row, row])[0] == 1
    assert proxy_tuning([row, np.array([3.0, 0, 0], np.float32), np.zeros(3, np.float32)])[0] == 0


def test_proxy_tuning_adds_what_the_aligned_model_says_over_the_unaligned(
    tiny_token_pair: Pair, tmp_path: Path
) -> None:
    base, nudge = tiny_token_pair.base, tiny_token_pair.nudge
    trio = exported(base, nudge, tmp_path / "trio", "--proxy-base", nudge, "--precision", "fp32")
    logits = {}
    with NudgedLM.load(trio) as lm:
        answer = next(
            answer
            for prompt in ("a dog", "x", "no time", "men ran")
            if (answer := lm.generate(prompt, mode="proxy-tuning", max_new_tokens=20)).pieces
            and all(_first_logits(lm, role, prompt, logits) for role in ("base", "nudge", "proxy_base"))
        )
    assert set(answer.timings.fed) == {"base", "nudge", "proxy_base"}
    tuned = logits["base"] + logits["nudge"] - logits["proxy_base"]
    assert answer.pieces[0].token_ids[0] == int(tuned.argmax())


def _first_logits(lm: NudgedLM, role: str, prompt: str, logits: dict[str, np.ndarray]) -> bool:
    """Put a model's logits after its prompt under its role."""
    messages = [{"role": "user", "content": prompt}]
    logits[role] = Decoder(lm.models[role]).prefill(lm.prompt(role, messages).ids)[0].copy()
    return True


def test_bad_arguments_say_what_to_do(lm: NudgedLM, tiny_word_pair: Pair) -> None:
    for options, message in (
        ({"gamma": 2}, "between 0 and 1"),
        ({"policy": "letter"}, "'word', 'token'"),
        ({"policy": "token"}, "one vocabulary"),
        ({"mode": "ensemble"}, "one vocabulary"),
        ({"mode": "both"}, "mode must be one of"),
        ({"max_new_tokens": 0}, "between 1 and"),
        ({"stop": [""]}, "not empty"),
        ({"speculation": "fast"}, "speculation must be"),
        ({"gate": "feeling"}, "gate must be one of"),
    ):
        with pytest.raises(NudgeError, match=message):
            lm.generate("the cat", **options)
    for messages in ([], [{"role": "robot", "content": "hi"}], [{"role": "user"}]):
        with pytest.raises(NudgeError):
            lm.generate(messages)
    with pytest.raises(ContextLengthError, match="shorten the prompt"):
        lm.generate("cat " * 5000)
    with pytest.raises(ProviderError, match=r"available here: .*cpu"):
        NudgedLM.load(tiny_word_pair.bundle, providers=["cuda"])
    with pytest.raises(ProviderError, match="unknown provider 'gpu'"):
        NudgedLM.load(tiny_word_pair.bundle, providers=["gpu"])
    with NudgedLM.load(tiny_word_pair.bundle, providers=["cuda", ("cpu", {})]) as fallen_back:
        assert set(fallen_back.providers.values()) == {"cpu"}


def test_an_answer_that_fills_the_context_ends_with_length(lm: NudgedLM) -> None:
    context, words = lm.bundle.manifest.models["nudge"].context_length, 1

    def read(words: int) -> int:
        return len(lm.prompt("nudge", [{"role": "user", "content": "cat " * words}]).ids)

    # As long as it may be, so that no answer ends before the context does.
    while read(words + 1) < context - 4:
        words += 1
    prompt = "cat " * words
    for mode in ("nudge", "nudged"):
        answer = lm.generate(prompt, max_new_tokens=10_000, mode=mode)
        assert answer.finish_reason == "length"
        assert answer.tokens["nudge"] <= context - read(words)


def test_a_closed_model_is_refused_and_a_truncated_graph_is_named(tiny_word_pair: Pair, tmp_path) -> None:  # type: ignore[no-untyped-def]
    import shutil

    lm = NudgedLM.load(tiny_word_pair.bundle)
    lm.close()
    with pytest.raises(NudgeError, match="closed"):
        lm.stream("the cat")
    broken = tmp_path / "broken"
    shutil.copytree(tiny_word_pair.bundle, broken)
    graph = broken / "base" / "model.onnx"
    data = graph.read_bytes()
    graph.write_bytes(data[:200] + b"\xff" * (len(data) - 200))
    with pytest.raises(BundleError, match=r"cannot open base/model\.onnx"):
        NudgedLM.load(broken)
