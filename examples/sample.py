"""Samples answers, and asks a gate of one's own who writes: `python sample.py BUNDLE PROMPT`."""

from __future__ import annotations

import sys

from nudge_onnx import NudgedLM, Sampling, Softmax


def two_way(softmax: Softmax, gamma: float) -> bool:
    """Certain where the best token takes at least `gamma` of what the two best have together."""
    second = softmax.top1 - softmax.margin
    return softmax.top1 / (softmax.top1 + second) >= gamma


def main(bundle: str, prompt: str) -> None:
    """Print two samples that the seed decides, then a greedy answer behind the gate above."""
    with NudgedLM.load(bundle) as lm:
        for seed in (1, 2):
            sampling = Sampling(temperature=0.8, top_p=0.95, seed=seed)
            print(f"seed {seed}: {lm.generate(prompt, sampling=sampling, max_new_tokens=48).text!r}")
        answer = lm.generate(prompt, gate=two_way, gamma=0.7, max_new_tokens=48)
        print(f"own gate: {answer.text!r} ({answer.nudging_ratio:.0%} nudging tokens)")


if __name__ == "__main__":
    main(*sys.argv[1:])
