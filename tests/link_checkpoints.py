"""Unpack GGUF files where the tests on the real pair and the benchmarks look for them: WORK FOLDER NAME=FILE ..."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from nudge_onnx.export.gguf import READING, to_checkpoint
from nudge_onnx.export.support.scratch import fingerprint, once


def main() -> None:
    """Unpack what is not unpacked yet: an export itself reads the weights of GGUF files where they are."""
    work, folder = map(Path, sys.argv[1:3])
    folder.mkdir(parents=True, exist_ok=True)
    for argument in sys.argv[3:]:
        name, _, file = argument.partition("=")
        source, link = Path(file), folder / name
        link.unlink(missing_ok=True)
        whole = once(work / f"whole-{READING}-{fingerprint([source])}", partial(to_checkpoint, source))
        link.symlink_to(whole.resolve(), target_is_directory=True)


if __name__ == "__main__":
    main()
