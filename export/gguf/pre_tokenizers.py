"""What the names in `tokenizer.ggml.pre` stand for: how a text is cut into pieces, within which merging happens.

The rules are those of the models' own tokenizers. Where llama.cpp approximates one (it has no classes of capital
letters and leaves normalisation out) the model's holds here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tokenizers import Regex
from tokenizers.pre_tokenizers import ByteLevel, Digits, PreTokenizer, Split
from tokenizers.pre_tokenizers import Sequence as PreTokenizers

from nudge_onnx.errors import SourceError

__all__ = ["PRE_TOKENIZERS", "Pre", "pre_tokenizer_named"]

CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
SPACES = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*" + SPACES
REST_WITH_SLASH = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*" + SPACES
WORDS = r"|[^\r\n\p{L}\p{N}]?\p{L}+"
LLAMA_3 = CONTRACTIONS + WORDS + r"|\p{N}{1,3}" + REST
QWEN_2 = CONTRACTIONS + WORDS + r"|\p{N}" + REST
SEED_CODER = CONTRACTIONS + WORDS + r"|\p{N}| ?[^\s\p{L}\p{N}\r\n]+" + SPACES
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
HEAD = r"[^\r\n\p{L}\p{N}]?"
TEKKEN = f"{HEAD}{UPPER}*{LOWER}+|{HEAD}{UPPER}+{LOWER}*" + r"|\p{N}" + REST_WITH_SLASH
GPT_4O = (
    f"{HEAD}{UPPER}*{LOWER}+{CONTRACTIONS}?|{HEAD}{UPPER}+{LOWER}*{CONTRACTIONS}?" + r"|\p{N}{1,3}" + REST_WITH_SLASH
)
GPT_2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
DEFAULT = (r"[\p{P}\$\+<=>\^~\|]+", GPT_2, r"\p{N}+", "[0-9][0-9][0-9]")
CASED = (
    "A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af\u0370-\u0373"
    "\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481"
    "\u048a-\u052f\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b"
    "\u1d6b-\u1d77\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b"
    "\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb"
    "\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128"
    "\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4"
    "\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf"
    "\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f\U000104b0-\U000104d3"
    "\U000104d8-\U000104fb\U00010c80-\U00010cb2\U00010cc0-\U00010cf2\U000118a0-\U000118df"
    "\U0001e900-\U0001e943"
)
"""The letters that DeepSeek's rule lists: those with a case, in the alphabets that it knows."""
EAST = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"
DEEPSEEK_LLM = (
    r"[\r\n]",
    rf"\s?[{CASED}]+",
    r"\s?" + "[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+",
    r"\s+$",
    EAST,
    r"\p{N}+",
)
DEEPSEEK_CODER = (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", EAST, r"\p{N}")
DEEPSEEK_V3 = (
    r"\p{N}{1,3}",
    "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*"
    + SPACES,
)


@dataclass(frozen=True)
class Pre:
    """What a name in `tokenizer.ggml.pre` stands for."""

    patterns: tuple[str, ...] = (GPT_2,)
    """Each cuts every piece that the one before left, into what it matches and what lies between."""
    digits: bool = False
    """Every digit is cut out before."""
    add_bos: bool = False
    """What holds where the file does not say it."""
    ignore_merges: bool = False
    """A piece that is a token is taken whole, whatever the merges."""
    nfc: bool = False
    """Text is normalised to NFC first. llama.cpp leaves that out; the models were trained with it."""

    def split(self) -> PreTokenizer:
        """The rule, and the change from bytes to their signs behind it."""
        if self.patterns == (GPT_2,):
            cuts: list[PreTokenizer] = [ByteLevel(add_prefix_space=False, use_regex=True)]
        else:
            cuts = [Split(Regex(pattern), behavior="isolated") for pattern in self.patterns]
            cuts.append(ByteLevel(add_prefix_space=False, use_regex=False))
        if self.digits:
            cuts.insert(0, Digits(individual_digits=True))
        return PreTokenizers(cuts) if len(cuts) > 1 else cuts[0]


LIKE_LLAMA_3 = Pre((LLAMA_3,), add_bos=True, ignore_merges=True)
LIKE_QWEN_2 = Pre((QWEN_2,), nfc=True)

PRE_TOKENIZERS: Mapping[str, Pre] = {
    "command-r": Pre(digits=True, nfc=True),
    "dbrx": Pre((LLAMA_3,)),
    "deepseek-coder": Pre(DEEPSEEK_CODER),
    "deepseek-llm": Pre(DEEPSEEK_LLM),
    "deepseek-r1-qwen": LIKE_QWEN_2,
    "deepseek-v3": Pre(DEEPSEEK_V3),
    "default": Pre(DEFAULT),
    "gpt-2": Pre(),
    "gpt-4o": Pre((GPT_4O,)),
    "llama-bpe": LIKE_LLAMA_3,
    "llama-v3": LIKE_LLAMA_3,
    "llama3": LIKE_LLAMA_3,
    "mpt": Pre(nfc=True),
    "olmo": Pre(nfc=True),
    "phi-2": Pre(),
    "qwen2": LIKE_QWEN_2,
    "refact": Pre(digits=True),
    "seed-coder": Pre((SEED_CODER,)),
    "smaug-bpe": Pre((LLAMA_3,)),
    "smollm": Pre(digits=True),
    "starcoder": Pre(digits=True),
    "tekken": Pre((TEKKEN,), add_bos=True, ignore_merges=True),
}


def pre_tokenizer_named(name: str, file: str) -> Pre:
    """Look up `tokenizer.ggml.pre`; `SourceError` for one that cannot be rebuilt exactly."""
    if name not in PRE_TOKENIZERS:
        known = ", ".join(PRE_TOKENIZERS)
        raise SourceError(f"{file}: pre-tokenizer {name!r} is not supported ({known}); use the original checkpoint")
    return PRE_TOKENIZERS[name]
