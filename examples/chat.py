"""Holds a conversation, one line a turn: `python chat.py BUNDLE`.

Each turn sends the whole conversation. What the caches hold of it is not read again: `fed` shows how little is.
"""

from __future__ import annotations

import sys

from nudge_onnx import ContextLengthError, NudgedLM


def main(bundle: str) -> None:
    """Answer each line of stdin."""
    messages: list[dict[str, str]] = []
    with NudgedLM.load(bundle) as lm:
        for line in sys.stdin:
            turn = [*messages, {"role": "user", "content": line.strip()}]
            try:
                answer = lm.generate(turn, max_new_tokens=64)
            except ContextLengthError as error:
                print(f"{error}; the conversation starts anew", file=sys.stderr)
                messages = []
                continue
            print(answer.text)
            print(f"tokens fed: {answer.timings.fed}", file=sys.stderr)
            messages = [*turn, {"role": "assistant", "content": answer.text}]


if __name__ == "__main__":
    main(*sys.argv[1:])
