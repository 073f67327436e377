"""Texts that tokenizers trip over; standard library only, so that the recording script needs no project around it."""

from __future__ import annotations

import random

__all__ = ["texts"]

FUZZED = 440
SEED = 20240719

CHOSEN = [
    "",
    " ",
    "a",
    "Hello, world!",
    "Why is the sky blue?",
    " leading",
    "trailing ",
    "  two leading",
    "   three   inside   ",
    " " * 31,
    " " * 32,
    " " * 70 + "x",
    "\n",
    "\n\n",
    "\n" * 31 + "\n" * 9,
    "\r\n",
    "line\r\nline\rline",
    "\t",
    "\t\tindent\tx",
    " \n \n  \n",
    "a \n b\n  c\n\td",
    "\u00a0no\u00a0break\u2009thin\u3000ideographic",
    "\u200bzero\u200dwidth\ufeff",
    "\x00\x01\x7f control",
    "\u2028line\u2029paragraph\x85next\x0bvertical\x0cfeed",
    "0",
    "1234567890",
    "12 345 6789,00 -1.5e-10 0x1F",
    "2026-01-31T23:59:59Z",
    "٠١٢٣ १२३ Ⅷ ½ ² ௧ 一二三",
    "a1b22c333d4444",
    "I'm you're they'll we've he'd it's don't",
    "I'M YOU'RE THEY'LL WE'VE HE'D IT'S DON'T",
    "''s 's'' 'tis ’s ‘quoted’ “double”",
    "!!! ??? ... --- === ___ *** ~~~ ### @@@",
    "foo.bar(baz)[0] -> {qux: 'x'}; // end",
    "def f(x):\n    return x ** 2  # square\n\n\nclass A:\n\tpass\n",
    "for (int i = 0; i < n; ++i) {\n\t\ta[i] += b[i];\n}\n",
    "<html><body><table><tr><td>x</td></tr></table></body></html>",
    "<b>bold</b> <i>it</i> <code> x </code> <h1>t</h1><s>strike</s>",
    "SELECT * FROM t WHERE a='b' AND c>=10;",
    "https://example.org/a/b?c=d&e=%20#f",
    "\\n \\t \\u0041 \\\\",
    "😀",
    "😀😃😄 🚀 ❤️ ♥",
    "👨‍👩‍👧‍👦 family",
    "🏳️‍🌈🇩🇪🇫🇷👍🏽",
    "e\u0301 é ñ n\u0303 a\u0300\u0301\u0302\u0303",
    "Z̸̡͖a̷͕l̵̻g̶̳o̴͜",
    "中文字符测试,你好世界。",
    "日本語のテキスト、カタカナとひらがな",
    "한국어 텍스트 \u1112\u1161\u11ab",
    "مرحبا بالعالم، كَيْفَ حَالُكَ؟",
    "שָׁלוֹם עוֹלָם",
    "สวัสดีชาวโลก",
    "नमस्ते दुनिया क्षत्रिय",
    "Привет, мир! Ёлка",
    "Ελληνικά ΐ ς Σ",
    "Straße ẞ İstanbul ı ſ ﬁ ﬀ Ǆ",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𝟘𝟙𝟚 𐍈 \U0010ffff",
    "\ue000 private \ufffd replacement \ufffe\uffff",
    "▁ ▁▁ ▁x x▁ ▁▁▁y",
    "Ġ Ċ ĠĠ Ã© âĢĻ",
    "<0x0A> <0xFF> <0x>",
    "<|im_start|>user\nhi<|im_end|>\n",
    "<|im_end|>",
    "<|endoftext|>",
    "<bos>",
    "<bos>text<eos><pad><unk><mask>",
    "<start_of_turn>user\nhi<end_of_turn>\n",
    "<unused0><unused99> [multimodal] <image_soft_token>",
    "< bos> <bos <|im_end| > <| im_end|> <<bos>>",
    "<repo_name> <file_sep> <gh_stars> <reponame>",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "aAaAaAaA ABCabcABC camelCaseWord snake_case_word",
    "abababababababababab" * 4,
    "supercalifragilisticexpialidocious antidisestablishmentarianism",
    "The quick brown fox jumps over the lazy dog. " * 8,
    "x" * 300,
    "ä" * 60,
    "。" * 40,
]

ATOMS = [
    *" \n\t\r",
    "  ",
    "    ",
    "\n\n",
    "\r\n",
    *"aeioutnsr",
    *"AZ09_-.,;:!?'\"()[]{}<>|/\\@#$%^&*+=~`",
    "the",
    " of",
    " and",
    "ing",
    "tion",
    "'s",
    "'ll",
    "'RE",
    "Hello",
    " world",
    "12",
    "2024",
    "3.14",
    "<|im_end|>",
    "<|im_start|>",
    "<bos>",
    "<eos>",
    "</s>",
    "<td>",
    "<0x0A>",
    "▁",
    "Ġ",
    "é",
    "e\u0301",
    "ß",
    "ſ",
    "ñ",
    "\u0300",
    "\u200d",
    "\u200b",
    "\ufe0f",
    "\u00a0",
    "\u3000",
    "😀",
    "👨‍👩‍👧",
    "🇫🇷",
    "👍🏽",
    "中",
    "文",
    "日本",
    "한",
    "語。",
    "م",
    "ر",
    "حَ",
    "ש",
    "ค",
    "क्ष",
    "Ω",
    "Ж",
    "½",
    "٣",
    "Ⅷ",
    "²",
    "𝔘",
    "\ufffd",
    "\ue000",
    "\x00",
    "\x1b",
]


def texts() -> list[str]:
    """The chosen texts, then fuzzed ones: atoms joined at random, and code points drawn at random."""
    draw = random.Random(SEED)
    fuzzed = [_joined(draw) if n % 4 else _code_points(draw) for n in range(FUZZED)]
    return [*CHOSEN, *fuzzed]


def _joined(draw: random.Random) -> str:
    # A small pool repeats itself, which is where ties between merges show.
    pool = draw.sample(ATOMS, draw.choice([2, 3, 8, len(ATOMS)]))
    return "".join(draw.choices(pool, k=draw.randint(1, 24)))


def _code_points(draw: random.Random) -> str:
    blocks = [(0x20, 0x7F), (0x80, 0x250), (0x300, 0x600), (0x600, 0x1000), (0x2000, 0x3100), (0x4E00, 0x5000)]
    blocks += [(0xF900, 0x10000), (0x1F000, 0x1FB00), (0x1, 0x110000)]
    low, high = draw.choice(blocks)
    points = [draw.randrange(low, high) for _ in range(draw.randint(1, 16))]
    return "".join(chr(point) for point in points if not 0xD800 <= point < 0xE000)
