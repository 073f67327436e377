"""Link the demo pair's unpacked checkpoints where the tests on the real pair look for them: WORK BASE NUDGE FOLDER."""

from __future__ import annotations

import sys
from pathlib import Path

from nudge_onnx.export.source.sources import fetch


def main() -> None:
    """Unpack what is not unpacked yet."""
    work, base, nudge, folder = map(Path, sys.argv[1:])
    folder.mkdir(parents=True, exist_ok=True)
    for role, source in (("base", base), ("nudge", nudge)):
        link = folder / role
        link.unlink(missing_ok=True)
        link.symlink_to(fetch(str(source), work).folder.resolve(), target_is_directory=True)


if __name__ == "__main__":
    main()
