"""Tiny pairs of models, exported for real, whose answers mix everything that the decoder has to get right.

The weights are random, so the answers are noise, of two kinds. The *word pair* writes the words of two tokenizers that
share little, of two families. The *token pair* has one vocabulary and writes many single bytes: half characters, and
spellings that its tokenizer would not choose. The rows of the output head are weighed so that words, spaces, halves
of characters and end tokens are neither rare nor all there is, and scaled so that the base model is certain about
half of the time.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from jinja2.sandbox import ImmutableSandboxedEnvironment
from kept import digest, kept
from oracle import OracleModel
from tiny import BOS, EOS, IM_END, IM_START, tiny_checkpoint
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from nudge_onnx.bundle import Bundle, ModelRecord

__all__ = [
    "Pair",
    "byte_level",
    "oracle_model",
    "oracle_pair",
    "rendered",
    "sentencepiece",
    "token_pair",
    "wide_pair",
    "word_pair",
]

SPECIAL = (BOS, EOS, IM_START, IM_END)
TEXT = "the cat sat on a mat and dog ran to town with old men for an hour in no time at all so be it"
WORDS = tuple(TEXT.split())
OTHER_WORDS = (*WORDS[::2], "time", "ti", "doggy")


@dataclass(frozen=True)
class Pair:
    """A bundle and the two checkpoint folders that it was exported from."""

    bundle: Path
    base: Path
    nudge: Path


# --- tokenizers


def _spell(words: Iterable[str], alphabet: Iterable[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges in which each word, and each start of one, is a token."""
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys([*SPECIAL, *alphabet]))}
    merges: list[tuple[str, str]] = []
    for word in words:
        for shorter, longer in pairwise(word[:n] for n in range(1, len(word) + 1)):
            if longer not in vocabulary:
                vocabulary[longer] = len(vocabulary)
                merges.append((shorter, longer[-1]))
    return vocabulary, merges


def byte_level(words: Iterable[str]) -> Tokenizer:
    """Byte-level like GPT-2's; words may hold characters that are more than one byte."""
    alphabet = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    spelled = ["".join(part for part, _ in alphabet.pre_tokenize_str(word)) for word in words]
    tokenizer = Tokenizer(models.BPE(*_spell(spelled, sorted(pre_tokenizers.ByteLevel.alphabet()))))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    return tokenizer


def sentencepiece(words: Iterable[str]) -> Tokenizer:
    """In the style of SentencePiece, with byte fallback, and with a BOS of its own as Gemma's has."""
    spelled = [word.replace(" ", "\u2581") for word in words]
    alphabet = [*(f"<0x{byte:02X}>" for byte in range(256)), "\u2581", *"abcdefghijklmnopqrstuvwxyzABCHQT:?.,!\n"]
    vocabulary, merges = _spell(spelled, alphabet)
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    return tokenizer


# --- checkpoints


def _weigh(folder: Path, tokenizer: Tokenizer, weight: Callable[[str], float]) -> None:
    """Multiply the output head's row of each token: heavier tokens are written more often."""
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    tensors = load_file(path)
    for token, number in tokenizer.get_vocab().items():
        tensors["lm_head.weight"][number] *= weight(token)
    save_file(tensors, path, metadata={"format": "pt"})


def _prefers_words(token: str) -> float:
    if token in SPECIAL:
        return 1.06 if token in (EOS, IM_END) else 0.9
    if token.startswith(("\u2581", "\u0120")):
        return 1.2
    if len(token) == 1 and ord(token) > 0xFF:
        return 0.4  # control characters, in the byte-level alphabet
    return 0.8 if len(token) == 1 or token.startswith("<0x") else 0.9


def _prefers_bytes(token: str) -> float:
    if token in SPECIAL:
        return 1.2 if token in (EOS, IM_END) else 0.9
    if token.startswith("\u0120"):
        return 1.25
    return 0.8 if len(token) == 1 and token.isascii() else 1.0


def exported(base: Path, nudge: Path, output: Path, *options: str | Path) -> Path:
    """Two checkpoints exported to a bundle at `output`, as a user would."""

    def export(folder: Path) -> None:
        from nudge_onnx.export.cli import main

        arguments = ["--base", base, "--nudge", nudge, "--output", folder, *options]
        main([str(argument) for argument in arguments], standalone_mode=False)

    found = kept([digest(base), digest(nudge), *map(str, options)], export, output)
    if found != output:
        shutil.copytree(found, output)
    return output


def _export(folder: Path, base: Path, nudge: Path, policy: str) -> Pair:
    return Pair(exported(base, nudge, folder / "bundle", "--policy", policy, "--precision", "fp32"), base, nudge)


def word_pair(folder: Path) -> Pair:
    """Two families and two tokenizers, for policy `word`."""
    ours, theirs = sentencepiece([*_spaced(WORDS), *WORDS]), byte_level([*_spaced(OTHER_WORDS), *OTHER_WORDS])
    base = tiny_checkpoint(folder / "base", "gemma3", seed=3, scale=3.3, tokenizer=ours)
    nudge = tiny_checkpoint(folder / "nudge", "qwen2", seed=5, scale=2.0, tokenizer=theirs, chat=True)
    _weigh(base, ours, _prefers_words)
    _weigh(nudge, theirs, _prefers_words)
    return _export(folder, base, nudge, "word")


def token_pair(folder: Path) -> Pair:
    """One vocabulary, for policy `token` (and `word`)."""
    shared = byte_level([*_spaced(WORDS[:8]), "é", "€", " €", " “", "😀"])
    base = tiny_checkpoint(folder / "base", "llama", seed=7, scale=3.0, tokenizer=shared)
    nudge = tiny_checkpoint(folder / "nudge", "llama", seed=6, scale=2.0, tokenizer=shared, chat=True)
    _weigh(base, shared, _prefers_bytes)
    _weigh(nudge, shared, _prefers_bytes)
    return _export(folder, base, nudge, "token")


def wide_pair(folder: Path) -> Pair:
    """A word pair whose base model has heads so wide that its attention over floats is read in segments."""
    ours, theirs = sentencepiece([*_spaced(WORDS), *WORDS]), byte_level([*_spaced(OTHER_WORDS), *OTHER_WORDS])
    heads = {"head_dim": 256, "num_attention_heads": 2, "num_key_value_heads": 1}
    base = tiny_checkpoint(folder / "base", "gemma3", seed=3, scale=3.3, tokenizer=ours, **heads)
    nudge = tiny_checkpoint(folder / "nudge", "qwen2", seed=5, scale=2.0, tokenizer=theirs, chat=True)
    _weigh(base, ours, _prefers_words)
    _weigh(nudge, theirs, _prefers_words)
    return _export(folder, base, nudge, "word")


def _spaced(words: Iterable[str]) -> list[str]:
    return [f" {word}" for word in words]


# --- what the oracle needs to know of a bundle


def oracle_model(folder: Path, record: ModelRecord) -> OracleModel:
    """The oracle's model of a checkpoint folder, with what the manifest says of its prompt and its ends."""
    return OracleModel.from_checkpoint(
        folder,
        end_token_ids=record.end_token_ids,
        add_bos=record.prompt.add_bos,
        context_length=record.context_length,
    )


def rendered(record: ModelRecord, prompt: str) -> str:
    """The text that a user's message becomes for one model of a bundle."""

    def raise_exception(message: str) -> None:
        raise ValueError(message)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = raise_exception
    variables: dict[str, Any] = {"messages": [{"role": "user", "content": prompt}], "system_prompt": ""}
    template = environment.from_string(record.prompt.template)
    return template.render(**variables, add_generation_prompt=True, **record.prompt.tokens)


def oracle_pair(pair: Pair) -> tuple[Bundle, OracleModel, OracleModel]:
    """The bundle of a pair, and the oracle's models of its checkpoints, not yet prompted."""
    bundle = Bundle.open(pair.bundle)
    records = bundle.manifest.models
    return bundle, oracle_model(pair.base, records["base"]), oracle_model(pair.nudge, records["nudge"])
