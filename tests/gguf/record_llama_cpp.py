"""Write `llama_cpp_tokens.json`, what llama.cpp makes of `tricky_texts`: `python record_llama_cpp.py CACHE_DIR`.

CACHE_DIR holds the demo pair, see `demo/fetch.py`. Needs `llama-cpp-python==0.3.36` and `gguf`. Besides the two files
as they are it records SmolLM2's vocabulary under other pre-tokenizers, and Gemma's with a space before every text:
llama.cpp is told so by overriding a key of the metadata.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import llama_cpp
from tricky_texts import texts

GEMMA = "gemma-3-270m-q4_k_m.gguf"
SMOLLM2 = "SmolLM2-135M-Instruct.Q4_1.gguf"
RECORDS: list[tuple[str, dict[str, Any]]] = [
    (GEMMA, {}),
    (SMOLLM2, {}),
    (GEMMA, {"tokenizer.ggml.add_space_prefix": True}),
    (SMOLLM2, {"tokenizer.ggml.pre": "gpt-2"}),
    (SMOLLM2, {"tokenizer.ggml.pre": "llama-bpe"}),
    (SMOLLM2, {"tokenizer.ggml.pre": "qwen2"}),
]


def record(path: Path, overrides: dict[str, Any], lines: list[str]) -> list[list[int]]:
    """Token ids of every text: no BOS, and special tokens are plain text (parse_special=False)."""
    model = llama_cpp.Llama(str(path), vocab_only=True, kv_overrides=overrides or None, verbose=False)
    return [model.tokenize(line.encode(), add_bos=False, special=False) for line in lines]


def main() -> None:
    """Record both models beside this script."""
    cache = Path(sys.argv[1])
    lines = texts()
    records = [
        {"file": file, "overrides": overrides, "ids": record(cache / file, overrides, lines)}
        for file, overrides in RECORDS
    ]
    target = Path(__file__).with_name("llama_cpp_tokens.json")
    recorded = {"recorder": f"llama-cpp-python {llama_cpp.__version__}", "texts": lines, "records": records}
    target.write_text(json.dumps(recorded, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
