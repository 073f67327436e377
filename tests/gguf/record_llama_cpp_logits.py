"""Write `llama_cpp_logits.json`, what llama.cpp computes of each tiny file: `python record_llama_cpp_logits.py FOLDER`.

FOLDER holds what `tiny_checkpoints.py` writes. Needs `llama-cpp-python==0.3.36` and `numpy`, not the project. Of the
logits a few are kept.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import llama_cpp
import numpy as np

TOKENS = 40
ROWS = (3, 21, 39)
STRIDE = 13
"""Of every row each 13th logit is kept."""


def record(path: Path, ids: list[int]) -> list[list[float]]:
    """Logits behind `ROWS` of the prompt `ids`, with a cache in fp32."""
    f32 = llama_cpp.GGML_TYPE_F32
    model = llama_cpp.Llama(str(path), n_ctx=len(ids), logits_all=True, type_k=f32, type_v=f32, verbose=False)
    model.eval(ids)
    return [[float(f"{logit:.6g}") for logit in model.scores[row][::STRIDE]] for row in ROWS]


def main() -> None:
    """Record every file beside this script."""
    files = sorted(Path(sys.argv[1]).glob("*.gguf"))
    ids = np.random.default_rng(1).integers(200, size=TOKENS).tolist()
    recorded = {
        "recorder": f"llama-cpp-python {llama_cpp.__version__}",
        "ids": ids,
        "rows": ROWS,
        "stride": STRIDE,
        "logits": {path.stem: record(path, ids) for path in files},
    }
    target = Path(__file__).with_name("llama_cpp_logits.json")
    target.write_text(json.dumps(recorded, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
