"""Streams one answer, with the nudging model's words in brackets: `python stream.py BUNDLE PROMPT`."""

from __future__ import annotations

import sys

from nudge_onnx import NudgedLM


def main(bundle: str, prompt: str) -> None:
    """Print an answer piece by piece, and what it took."""
    with NudgedLM.load(bundle) as lm, lm.stream(prompt, max_new_tokens=64) as stream:
        for piece in stream:
            print(f"[{piece.text}]" if piece.source == "nudge" else piece.text, end="", flush=True)
    answer = stream.answer
    print()
    print(f"{answer.nudging_ratio:.0%} nudging tokens, finish reason: {answer.finish_reason}", file=sys.stderr)


if __name__ == "__main__":
    main(*sys.argv[1:])
