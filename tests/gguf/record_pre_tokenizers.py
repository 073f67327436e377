"""Write `llama_cpp_pieces.json`, how llama.cpp cuts `tricky_texts` by each rule: `python record_pre_tokenizers.py`.

Needs `llama-cpp-python==0.3.36` and `gguf`. The vocabulary is made for it: merges that know no bounds of words, learnt
from the texts themselves, so that every cut shows in the ids. Of the ids of a text only a checksum is kept.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import llama_cpp
from gguf import GGUFValueType, GGUFWriter, TokenType
from tricky_texts import texts

MERGES = 700
NAMES = [
    *("command-r", "dbrx", "deepseek-coder", "deepseek-llm", "deepseek-r1-qwen", "deepseek-v3", "default", "gpt-2"),
    *("gpt-4o", "llama-bpe", "llama-v3", "llama3", "mpt", "olmo", "phi-2", "qwen2", "refact", "seed-coder"),
    *("smaug-bpe", "smollm", "starcoder", "tekken"),
]
WHOLE = "Ġantidisestablishmentarianism"
"""A token that no merges spell: only rules that ignore merges find it."""


def signs() -> dict[int, str]:
    """GPT-2's printable sign of each byte."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    return {byte: chr(byte) for byte in plain} | {byte: chr(0x100 + n) for n, byte in enumerate(others)}


def learnt(lines: list[str]) -> list[tuple[str, str]]:
    """The most frequent pair of neighbours, joined, again and again; the smaller one of two that are as frequent."""
    of_byte = signs()
    pieces = [[of_byte[byte] for byte in line.encode()] for line in lines]
    merges: list[tuple[str, str]] = []
    for _ in range(MERGES):
        counted = Counter(pair for piece in pieces for pair in pairwise(piece))
        best = min(counted, key=lambda pair: (-counted[pair], pair))
        merges.append(best)
        for piece in pieces:
            at = 0
            while at + 1 < len(piece):
                if (piece[at], piece[at + 1]) == best:
                    piece[at : at + 2] = ["".join(best)]
                at += 1
    return merges


def write_vocabulary(path: Path, merges: list[tuple[str, str]], pre: str) -> list[str]:
    """A GGUF file without weights; returns its tokens."""
    # Two merges may spell one token.
    tokens = list(dict.fromkeys(["<|end|>", *sorted(signs().values()), *("".join(pair) for pair in merges), WHOLE]))
    writer = GGUFWriter(path, "llama")
    writer.add_string("tokenizer.ggml.model", "gpt2")
    writer.add_string("tokenizer.ggml.pre", pre)
    writer.add_array("tokenizer.ggml.tokens", tokens)
    types = [TokenType.CONTROL, *[TokenType.NORMAL] * (len(tokens) - 1)]
    writer.add_key_value("tokenizer.ggml.token_type", types, GGUFValueType.ARRAY, sub_type=GGUFValueType.INT32)
    writer.add_array("tokenizer.ggml.merges", [" ".join(pair) for pair in merges])
    for key in ("bos_token_id", "eos_token_id", "unknown_token_id", "padding_token_id"):
        writer.add_uint32(f"tokenizer.ggml.{key}", 0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return tokens


def main() -> None:
    """Record every rule beside this script."""
    lines = texts()
    merges = learnt(lines)
    sums: dict[str, str] = {}
    with TemporaryDirectory() as folder:
        for name in NAMES:
            path = Path(folder) / f"{name}.gguf"
            tokens = write_vocabulary(path, merges, name)
            model = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
            found = [model.tokenize(line.encode(), add_bos=False, special=False) for line in lines]
            sums[name] = " ".join(f"{zlib.crc32(json.dumps(ids).encode()):08x}" for ids in found)
    recorded = {
        "recorder": f"llama-cpp-python {llama_cpp.__version__}",
        "tokens": tokens,
        "merges": [" ".join(pair) for pair in merges],
        "checksums": sums,
    }
    target = Path(__file__).with_name("llama_cpp_pieces.json")
    target.write_text(json.dumps(recorded, indent=0) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
