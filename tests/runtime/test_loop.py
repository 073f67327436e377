"""The loop on scripted models: what is written, and exactly what is read for it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from nudge_onnx.choices import Tail
from nudge_onnx.runtime.text.tokenizer import Tokenizer
from tests.runtime.scripted import Script, ScriptedPair, byte_tokenizer, follow, merged


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return byte_tokenizer(Path(tmp_path_factory.mktemp("bytes")))


def test_the_nudging_model_starts_and_the_base_model_takes_over_where_it_is_certain(tokenizer: Tokenizer) -> None:
    pair = ScriptedPair(tokenizer, follow("one two three four", unsure=[14]), follow("one two three four"))
    pieces, finish = pair.run()
    # Unsure at 14 ("f" of four): the base model writes up to the space before it, the nudging model ends the answer.
    assert merged(pieces) == [("nudge", "one"), ("base", " two three "), ("nudge", "four")]
    assert finish == "stop"
    assert all(p.top1 == pytest.approx((0.9,) * len(p.token_ids)) for p in pieces)


def test_agreement_lets_an_unsure_base_model_in(tokenizer: Tokenizer) -> None:
    # Not certain at the space before "two", and a space alone agrees with nothing; certain nowhere else either.
    unsure = range(100)
    pair = ScriptedPair(tokenizer, follow("one two", unsure), follow("one two"), draft_tokens=4)
    assert merged(pair.run()[0]) == [("nudge", "one two")]

    def skips_the_space(answer: str) -> tuple[str, float]:
        return ("t", 0.1) if answer == "one" else ("", 0.9)

    pair = ScriptedPair(tokenizer, skips_the_space, follow("one two"), draft_tokens=6)
    pieces, _ = pair.run()
    assert merged(pieces)[:2] == [("nudge", "one"), ("base", "t")]


def test_an_end_token_of_the_base_model_only_hands_over(tokenizer: Tokenizer) -> None:
    pair = ScriptedPair(tokenizer, follow("one two"), follow("one two three four five six"))
    pieces, finish = pair.run()
    assert "".join(p.text for p in pieces) == "one two three four five six"
    assert ("base", " two") in merged(pieces)
    assert finish == "stop"


def test_the_same_words_offered_four_times_end_the_answer(tokenizer: Tokenizer) -> None:
    def stutters(answer: str) -> tuple[str, float]:
        return " no"[len(answer) % 3], 0.9

    def never(_answer: str) -> tuple[str, float]:
        return "x", 0.1

    pieces, finish = ScriptedPair(tokenizer, never, stutters, draft_tokens=6).run()
    assert ([p.text for p in pieces], finish) == ([" no"] * 3, "repetition")


def test_the_limit_is_exact_and_cuts_a_draft(tokenizer: Tokenizer) -> None:
    for limit in range(1, 19):
        pair = ScriptedPair(
            tokenizer, follow("one two three four", [14]), follow("one two three four"), max_new_tokens=limit
        )
        pieces, finish = pair.run()
        assert "".join(p.text for p in pieces) == "one two three four"[:limit]
        assert sum(len(p.token_ids) for p in pieces) == limit
        assert finish == ("stop" if limit == 18 else "length")


def test_the_turn_never_changes_inside_a_character(tokenizer: Tokenizer) -> None:
    text = "a €€"
    data = text.encode().decode("latin-1")
    # The base model takes over behind "a" and is unsure from the second byte of the first euro sign on.
    pair = ScriptedPair(tokenizer, follow(data, unsure=range(3, 50)), follow(data), draft_tokens=3)
    pieces, finish = pair.run()
    assert [(p.source, p.text) for p in pieces] == [("nudge", "a"), ("base", " "), ("base", "€"), ("nudge", "€")]
    assert finish == "stop"


def test_a_limit_inside_a_character_leaves_the_character_out(tokenizer: Tokenizer) -> None:
    data = "a €€".encode().decode("latin-1")
    for limit, text in ((3, "a "), (4, "a "), (5, "a €"), (6, "a €")):
        pieces, finish = ScriptedPair(tokenizer, follow(data), follow(data), max_new_tokens=limit).run()
        assert ("".join(p.text for p in pieces), sum(len(p.token_ids) for p in pieces)) == (text, limit)
        assert finish == "length"


def test_speculation_reads_a_draft_in_one_pass_and_rewinds_what_is_rejected(tokenizer: Tokenizer) -> None:
    base, nudge = follow("one two six", unsure=[8]), follow("one two ten")
    plain = ScriptedPair(tokenizer, base, nudge, draft_tokens=8, speculation="off")
    ahead = ScriptedPair(tokenizer, base, nudge, draft_tokens=8, speculation=16)
    assert plain.run() == ahead.run()
    # Off: the words up to each checkpoint, then one byte a pass.
    assert plain.base.passes[:5] == ["?one", " ", "t", "w", "o"]
    # On: prompt and draft in one pass; every byte of " two " was read there, and the next pass is only after it.
    assert ahead.base.passes[0] == "?one two "
    assert ahead.base.passes[1:2] != [" "]
    assert len(ahead.base.passes) < len(plain.base.passes)
    assert ahead.base.fed >= plain.base.fed


def test_the_exact_pattern_of_accepted_and_rejected_guesses(tokenizer: Tokenizer) -> None:
    # The draft says "a bcdX..." where the base model says "a bcde f": three guesses hold, the fourth does not.
    pair = ScriptedPair(tokenizer, follow("a bcde f"), follow("a bcdXYZ"), draft_tokens=8, speculation=4)
    seen: list[bool] = []
    original = pair.speculation.saw
    pair.speculation.saw = lambda hit, sure: (seen.append(hit), original(hit, sure))[0]  # type: ignore[method-assign,func-returns-value]
    pieces = []
    source = pair.loop.run()
    for piece in source:
        pieces.append(piece)
        if "".join(p.text for p in pieces) == "a bcde":
            break
    source.close()
    assert seen[:5] == [True, True, True, True, False]
    assert merged(pieces) == [("nudge", "a"), ("base", " bcde")]


@pytest.mark.parametrize("bets", [None, 0.5])
@pytest.mark.parametrize("tail", ["draft", "lazy"])
@pytest.mark.parametrize("policy", ["word", "token"])
def test_reading_ahead_never_changes_an_answer(
    tokenizer: Tokenizer, policy: str, tail: Tail, bets: float | None
) -> None:
    dice = random.Random(7)
    for _ in range(40):
        alphabet = "ab  \n" if dice.random() < 0.5 else "abcdefgh "

        def rule(salt: int, sure: float, letters: str = alphabet) -> Script:
            def script(answer: str) -> tuple[str, float]:
                # What comes next depends on the last characters only, so that the two models often agree.
                local = random.Random(f"{salt if len(answer) % 3 == 0 else 0}/{answer[-3:]}")
                char = "" if local.random() < 0.02 else local.choice(letters)
                return char, 0.9 if local.random() < sure else 0.1

            return script

        base, nudge = rule(dice.randrange(99), dice.random()), rule(dice.randrange(99), 1.0 if bets is None else 0.5)
        length = dice.randrange(1, 20)
        outcomes = [
            ScriptedPair(
                tokenizer,
                base,
                nudge,
                policy=policy,
                speculation=mode,
                draft_tokens=length,
                max_new_tokens=60,
                tail=tail,
                bets=bets,
            ).run()
            for mode in ("off", "auto", "entropy", 1, 3, 16)
        ]
        assert all(outcome == outcomes[0] for outcome in outcomes)


def test_a_nudging_model_whose_context_is_full_leaves_the_base_model_without_guesses(tokenizer: Tokenizer) -> None:
    text = "one two three four five six"
    outcomes = {}
    for speculation in ("off", 4):
        pair = ScriptedPair(tokenizer, follow(text), follow(text), speculation=speculation, draft_tokens=4)
        pair.nudge.context_length = 20
        outcomes[speculation] = pair.run()
    # The base model goes on beyond what the nudging model can read; the end is that one's to write.
    assert outcomes[4] == outcomes["off"]
    pieces, finish = outcomes[4]
    assert ("".join(piece.text for piece in pieces), finish) == (text, "length")


def test_what_a_cache_holds_is_never_read_again(tokenizer: Tokenizer) -> None:
    text = "one two three four five six seven eight nine ten"
    pair = ScriptedPair(tokenizer, follow(text, unsure=[8, 24]), follow(text))
    pair.run()
    # The models agree on every byte, so no pass is wasted: each is fed the prompt and the text, once.
    assert pair.base.fed <= 1 + len(text)
    assert pair.nudge.fed <= 1 + len(text)


def test_a_lazy_tail_ends_an_answer_only_where_the_base_model_does_not_take_over(tokenizer: Tokenizer) -> None:
    base, nudge = follow("one two three four", unsure=[14]), follow("one two")
    # The whole draft is seen to end: as the authors do it, the base model is not asked.
    assert merged(ScriptedPair(tokenizer, base, nudge).run()[0]) == [("nudge", "one two")]
    # It is certain at " two", so it goes on, and the end that counts is the one at "f", where it is unsure.
    pieces, finish = ScriptedPair(tokenizer, base, nudge, tail="lazy").run()
    assert (merged(pieces), finish) == ([("nudge", "one"), ("base", " two three ")], "stop")


def test_a_lazy_draft_is_written_no_further_than_is_asked(tokenizer: Tokenizer) -> None:
    text = "one two three four five six"
    pair = ScriptedPair(tokenizer, follow(text, unsure=[14]), follow(text), tail="lazy")
    assert pair.run()[1] == "stop"
    # Up to the first byte of the second word, and from "four" on; the base model wrote what is between.
    assert "".join(pair.nudge.passes) == "?" + text
    assert pair.nudge.passes[:5] == ["?", "o", "n", "e", " "]
    assert pair.nudge.passes[5].startswith("two")


def test_a_lazy_draft_that_meets_the_end_of_a_context_behind_a_hand_over_is_no_end(tokenizer: Tokenizer) -> None:
    text = "one two three four five six"
    outcomes = []
    for speculation in ("off", "auto", "entropy", 16):
        pair = ScriptedPair(tokenizer, follow(text), follow(text), speculation=speculation, tail="lazy")
        pair.nudge.context_length = 9
        outcomes.append(pair.run())
    assert all(outcome == outcomes[0] for outcome in outcomes)
    assert "".join(piece.text for piece in outcomes[0][0]) == text


def test_the_gate_bet_compares_both_models(tokenizer: Tokenizer) -> None:
    text = "one two three four"

    def sure(probability: float) -> Script:
        return lambda answer: (text[len(answer) : len(answer) + 1], probability)

    def written(gamma: float, base: float, nudge: float) -> set[str]:
        pieces, _ = ScriptedPair(tokenizer, sure(base), sure(nudge), bets=gamma, draft_tokens=4).run()
        return {piece.source for piece in pieces[1:]}

    assert written(0.5, 0.6, 0.5) == {"base", "nudge"}  # which only ends the answer
    assert written(0.5, 0.5, 0.6) == {"nudge"}
    assert written(0.4, 0.5, 0.6) == {"base", "nudge"}  # 0.1 behind is near enough
    assert written(0.56, 0.6, 0.5) == {"nudge"}  # 0.1 ahead is not enough
