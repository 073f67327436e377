"""One prompt, three answers: base model alone, nudging model alone, both: `python demo/compare.py BUNDLE PROMPT`."""

from __future__ import annotations

import argparse
import shutil
import sys
import textwrap

from nudge_onnx import Answer, NudgedLM, NudgeError

COLUMNS = (("base", "base model alone"), ("nudge", "nudging model alone"), ("nudged", "nudged [nudging words]"))
TOKENS = 96


def marked(answer: Answer) -> str:
    """The answer's text with the nudging model's words in brackets."""
    text = ""
    for piece in answer.pieces:
        words = piece.text.strip()
        lead, tail = piece.text.partition(words)[::2] if words else (piece.text, "")
        text += f"{lead}[{words}]{tail}" if piece.source == "nudge" and words else piece.text
    return text


def side_by_side(answers: dict[str, Answer]) -> str:
    """The three answers as columns that fit the terminal."""
    width = max(24, (min(shutil.get_terminal_size((118, 24)).columns, 140) - 4) // 3)
    columns = []
    for mode, title in COLUMNS:
        answer = answers[mode]
        text = marked(answer) if mode == "nudged" else answer.text
        lines = [piece for line in text.splitlines() for piece in (textwrap.wrap(line, width) or [""])]
        ratio = f", {answer.nudging_ratio:.0%} nudging" if mode == "nudged" else ""
        foot = f"({answer.tokens_per_second:.0f} tokens/s{ratio}, finish: {answer.finish_reason})"
        columns.append([title, "-" * width, *lines, "", *textwrap.wrap(foot, width)])
    height = max(map(len, columns))
    rows = zip(*(column + [""] * (height - len(column)) for column in columns), strict=True)
    return "\n".join("  ".join(cell.ljust(width) for cell in row).rstrip() for row in rows)


def main() -> None:
    """Load the bundle once and answer three times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle")
    parser.add_argument("prompt")
    args = parser.parse_args()
    try:
        with NudgedLM.load(args.bundle) as lm:
            for role, model in lm.bundle.manifest.models.items():
                print(
                    f"{role}: {model.source.name}, {model.precision}, licence: {model.source.licence}", file=sys.stderr
                )
            answers = {}
            for mode, title in COLUMNS:
                print(f"answering: {title} ...", file=sys.stderr)
                answers[mode] = lm.generate(args.prompt, mode=mode, max_new_tokens=TOKENS)
    except NudgeError as error:
        sys.exit(f"Error: {error}")
    print(f"\nprompt: {args.prompt}\n\n{side_by_side(answers)}")


if __name__ == "__main__":
    main()
