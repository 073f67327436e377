"""Texts that tokenizers stumble over, and random mixtures of their parts."""

from __future__ import annotations

import random

__all__ = ["all_texts", "fuzzed"]

PLAIN = (
    "",
    " ",
    "  ",
    "   \n  \n\n   ",
    "a",
    "the cat sat on the mat",
    "The quick brown fox jumps over the lazy dog.",
    "don't, I'll, we've, THEY'RE, it's",
    "x = [1, 22, 333, 4444, 55555]; y = 3.14e-10",
    "2026-11-23 12:34:56",
    "naïve café, Über, Ångström, e\u0301",
    "Ελληνικά, русский, עברית, العربية",
    "日本語の文章。漢字とかな、１２３",
    "한국어 문장 하나",
    "😀 😀😀 👩\u200d👩\u200d👧\u200d👦 🇩🇪 👍🏽",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𐐀𐐨 𝟙𝟚𝟛 🀄",
    "tabs\tand\u00a0no-break\u3000ideographic spaces",
    "trailing space ",
    "trailing spaces   ",
    "\n\nlines\r\nof every\rkind\u2028and\u2029more",
    "<s>special</s> <|im_start|>user\nhello<|im_end|>",
    "<s><s></s>< s > <|im_|> <0x41> <0xZZ> <unk>",
    "▁▁the▁cat ▁ the",
    "<|im_start",
    "§±²³¼½ ①② Ⅷ ٣٤ \u200b\ufeff",
    "!!!???...---___***###",
    "def add(a, b):\n    return a + b\n\n\nprint(add(1, 2))\n",
    "https://example.org/a?b=c&d=%20#e",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "\x00\x01\x1c\x1d\x7f\x85",
)
PARTS = (
    *"abcdefghijklmnopqrstuvwxyzABCXYZ0123456789 .,;:!?'\"-_()[]{}<>|/\\#@&*+=~^%$\n\t\r",
    *(
        "  ",
        "   ",
        "\n\n",
        "\r\n",
        "'s",
        "'LL",
        " the",
        " cat",
        "and",
        "ing",
        "<s>",
        "</s>",
        "<|im_start|>",
        "<|im_end|>",
    ),
    *"éüñßøΩжяשعあ漢字한글１２٣²½Ⅷ\u00a0\u3000\u2028\u200d\u0301\u0903\ufffd€—“”…▁\x1c\x85",
    *("😀", "👍🏽", "𝔘", "𐐀", "𝟙", "🀄", "🇩🇪", "\U000e0041", "\U000f0000"),
)


def fuzzed(seed: int, count: int) -> list[str]:
    """Random texts of 1 to 40 parts."""
    rng = random.Random(seed)
    return ["".join(rng.choices(PARTS, k=rng.randint(1, 40))) for _ in range(count)]


def all_texts(seed: int, count: int) -> list[str]:
    """The plain texts, followed by `count` random ones."""
    return [*PLAIN, *fuzzed(seed, count)]
