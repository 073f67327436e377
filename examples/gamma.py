"""Shows what gamma does on your prompts, to choose one by hand: `python gamma.py BUNDLE PROMPTS`.

PROMPTS is a text file with one prompt a line. A gamma of 0 never nudges, one of 1 nearly always does. The paper
chooses gamma for a pair and task so that about a tenth of the tokens are nudging tokens.
"""

from __future__ import annotations

import sys
from pathlib import Path

from nudge_onnx import Answer, NudgedLM

GAMMAS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.7)


def share(answers: list[Answer]) -> float:
    """The nudging model's share of the tokens of all answers."""
    tokens = {role: sum(answer.tokens[role] for answer in answers) for role in ("base", "nudge")}
    return tokens["nudge"] / max(sum(tokens.values()), 1)


def main(bundle: str, prompts: str) -> None:
    """Print a table of gamma, share of nudging tokens, share of answers that ended by themselves, tokens a second."""
    lines = [line for line in Path(prompts).read_text(encoding="utf-8").splitlines() if line.strip()]
    print("gamma  nudging  ended  tokens/s")
    with NudgedLM.load(bundle) as lm:
        for gamma in GAMMAS:
            answers = [lm.generate(line, gamma=gamma, max_new_tokens=64) for line in lines]
            ended = sum(answer.finish_reason == "stop" for answer in answers) / len(answers)
            seconds = sum(answer.timings.decode for answer in answers)
            speed = sum(sum(answer.tokens.values()) for answer in answers) / seconds
            print(f"{gamma:5.2f}  {share(answers):7.0%}  {ended:5.0%}  {speed:8.1f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
