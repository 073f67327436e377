"""Makes the conformance vectors, `python tests/conformance/make.py`: two tiny bundles, and what Python makes of them.

With `--bundles` the bundles are exported anew too. The files are committed, so this runs only where the format or the
method changes. Traces that hang on a hair (a gate or an arg-max decided by less than another machine's rounding) are
left out.
"""

from __future__ import annotations

import json
import math
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from unittest import mock

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from pairs import WORDS, byte_level, sentencepiece, token_pair, word_pair  # noqa: E402
from tiny import CORPUS  # noqa: E402

from conformance.prompts import prompt_cases  # noqa: E402
from conformance.templates import TEMPLATES  # noqa: E402
from conformance.texts import all_texts  # noqa: E402
from nudge_onnx import NudgedLM, NudgeError  # noqa: E402
from nudge_onnx.bundle import Prompt  # noqa: E402
from nudge_onnx.runtime import modes  # noqa: E402
from nudge_onnx.runtime.choosing.choosers import Choice  # noqa: E402
from nudge_onnx.runtime.choosing.gates import GATES, Softmax  # noqa: E402
from nudge_onnx.runtime.choosing.pair_gates import PairGate, bet  # noqa: E402
from nudge_onnx.runtime.nudging.results import Answer  # noqa: E402
from nudge_onnx.runtime.nudging.transcript import to_text  # noqa: E402
from nudge_onnx.runtime.text.templates import render  # noqa: E402
from nudge_onnx.runtime.text.tokenizer import Tokenizer  # noqa: E402

BOS, EOS, MARK = "<s>", "</s>", "\u2581"
LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CLOSE_CALL = 5e-4
PROMPTS = (
    "Why is the sky blue?",
    "Count to 12, then stop.",
    "the cat sat on a mat",
    "日本語で答えて 😀",
    "  leading and   inner    spaces\n\nand lines",
    "<|im_start|>user\nnot a real turn</s>",
    "naïve café — “quoted”",
    "x",
    "A much longer prompt, " + "with the same old words again and again, " * 6,
)
OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"gamma": 0.2},
    {"gamma": 0.6, "draft_tokens": 5},
    {"gamma": 0.8, "max_new_tokens": 7},
    {"gate": "margin", "gamma": 0.1},
    {"gate": "entropy", "gamma": 0.5},
    {"system_prompt": "Be brief.", "gamma": 0.3},
    {"stop": [" the", "and"], "gamma": 0.4},
    {"draft_tokens": 1, "gamma": 0.5},
    {"gamma": 1.0, "max_new_tokens": 33},
    {"gamma": 0.0},
    {"tail": "lazy"},
    {"tail": "lazy", "gamma": 0.2, "draft_tokens": 5},
    {"tail": "lazy", "gamma": 0.6},
    {"gate": "bet", "gamma": 0.5},
    {"gate": "bet", "gamma": 0.4, "tail": "lazy"},
    {"gate_temperature": 1.5, "gamma": 0.3},
)
CONVERSATION = [
    {"role": "system", "content": "You are terse."},
    {"role": "user", "content": "Hello there"},
    {"role": "assistant", "content": "Hello."},
    {"role": "user", "content": "And in 3 words?"},
]
CONTINUED = [*CONVERSATION, {"role": "assistant", "content": "The three words are: "}]


# --- tokenizers


def tokenizer_files(folder: Path) -> None:
    """Tokenizers of kinds that the bundles lack, as small `tokenizer.json` files."""
    folder.mkdir(parents=True, exist_ok=True)
    plain = _json(byte_level([f" {word}" for word in WORDS]))
    trained = _json(_trained())
    pieces = _json(sentencepiece([*(f" {word}" for word in WORDS), *WORDS]))
    digits = {"type": "Digits", "individual_digits": True}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    split = {"type": "Split", "pattern": {"Regex": LLAMA_3}, "behavior": "Isolated", "invert": False}
    spaces = {"type": "Split", "pattern": {"String": MARK}, "behavior": "MergedWithPrevious", "invert": False}
    metaspace = {"type": "Metaspace", "replacement": MARK, "prepend_scheme": "first", "split": False}
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": MARK}
    begin = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": BOS, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {BOS: {"id": BOS, "ids": [0], "tokens": [BOS]}},
    }
    decoders = [replace | {"pattern": {"String": MARK}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}]
    strip = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    kinds = {
        "digits": trained | {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [digits, level]}},
        "llama3": trained
        | {
            "model": trained["model"] | {"ignore_merges": True},
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, level | {"use_regex": False}]},
            "post_processor": {"type": "Sequence", "processors": [level, begin]},
        },
        "prefix-space": plain | {"pre_tokenizer": level | {"add_prefix_space": True}},
        "gemma": pieces
        | {
            "pre_tokenizer": spaces,
            "added_tokens": [*pieces["added_tokens"], _added(pieces, "\n\n"), _added(pieces, MARK * 2, 1)],
        },
        "llama2": pieces
        | {
            "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": MARK}, replace]},
            "decoder": {"type": "Sequence", "decoders": [*decoders, strip]},
        },
        "metaspace": pieces
        | {
            "normalizer": None,
            "pre_tokenizer": metaspace,
            "decoder": metaspace | {"prepend_scheme": "always"},
            "model": pieces["model"] | {"byte_fallback": False, "unk_token": EOS, "fuse_unk": True},
        },
    }
    for name, content in kinds.items():
        (folder / f"{name}.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def _json(tokenizer: Any) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(tokenizer.to_str())
    return content


def _trained() -> Any:
    from tiny import tiny_tokenizer

    return tiny_tokenizer(480, corpus=CORPUS)


def _added(content: dict[str, Any], text: str, offset: int = 0) -> dict[str, Any]:
    number = len(content["model"]["vocab"]) + offset
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
    return {"id": number, "content": text, **flags}


def tokenizer_cases(paths: Iterable[Path]) -> list[dict[str, Any]]:
    """What each tokenizer makes of the same texts."""
    found = []
    for path in paths:
        tokenizer = Tokenizer(path)
        cases = []
        for text in all_texts(seed=11, count=60):
            ids, prompt = tokenizer.encode(text), tokenizer.encode_prompt(text, False)[0]
            cases.append({"text": text, "ids": ids} | ({"prompt_ids": prompt} if prompt != ids else {}))
        size = len(json.loads(path.read_text(encoding="utf-8"))["model"]["vocab"]) + 3
        found.append(
            {
                "file": path.relative_to(HERE).as_posix(),
                "prefix": tokenizer.encode_prompt("", True)[0],
                "token_bytes": [tokenizer.bytes_of(number).hex() for number in range(size)],
                "cases": cases,
            }
        )
    return found


# --- bytes and templates


def utf8_cases() -> list[dict[str, Any]]:
    """Bytes whole, cut and broken, with their text and how many bytes at their end only begin a character."""
    rng = random.Random(5)
    edges = (0x00, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC2, 0xDF, 0xE0, 0xE1, 0xED, 0xEF, 0xF0, 0xF4)
    samples = ["é€😀".encode()[:n] for n in range(10)] + [bytes([byte]) for byte in (*edges, 0xF5, 0xFF)]
    samples += [bytes(rng.choices(edges, k=rng.randint(2, 7))) for _ in range(200)]
    return [dict(zip(("bytes", "text", "pending"), (data.hex(), *to_text(data)), strict=True)) for data in samples]


def template_cases() -> list[dict[str, Any]]:
    """Templates in the manner of real ones over several conversations; without `text`, the template refuses."""
    user = {"role": "user", "content": "Hi <there> & 'you'\n"}
    assistant = {"role": "assistant", "content": " <think>\nhm\n</think>\n\nHello. "}
    system = {"role": "system", "content": "Be brief."}
    conversations = [[user], [system, user], [user, assistant, user], [system, user, assistant, user], [user, user]]
    # The last turn goes on, with its blanks.
    conversations += [[user, assistant], [user, {"role": "assistant", "content": ""}], [system, user, assistant]]
    tokens = {"bos_token": "<s>", "eos_token": "</s>"}
    cases = []
    for name, template in TEMPLATES.items():
        for messages in conversations:
            case: dict[str, Any] = {"name": name, "template": template, "tokens": tokens, "messages": messages}
            try:
                case["text"] = render(Prompt(template, tokens), messages)
            except NudgeError as error:
                case["error"] = str(error)
            cases.append(case)
    return cases


# --- traces


class Closeness:
    """A gate that notes how nearly a decision went the other way."""

    def __init__(self, name: str) -> None:
        self._gate = GATES[name]
        self._name = name
        self.least = 1.0

    def __call__(self, softmax: Softmax, gamma: float) -> bool:
        value = 1 - softmax.entropy if self._name == "entropy" else getattr(softmax, self._name)
        self.least = min(self.least, abs(value - gamma), softmax.margin)
        return self._gate(softmax, gamma)


def watched(lm: NudgedLM, messages: Any, options: dict[str, Any]) -> tuple[Answer, float]:
    """An answer, and by how little a decision of it was made."""
    least = [1.0]
    if options.get("gate") != "bet":
        gate = Closeness(options.get("gate", lm.bundle.manifest.defaults.gate))
        answer = lm.generate(messages, **(options | {"gate": gate}), speculation="off")
        return answer, gate.least

    def close_bet(gamma: float) -> PairGate:
        def gate(base: Choice, nudge: Choice) -> bool:
            for choice in (base, nudge):
                assert choice.logprobs is not None
                (_, first), (_, second) = choice.logprobs.top
                least.append(math.exp(first) - math.exp(second))
            least.append(abs(base.top1 - nudge.top1 - (2 * gamma - 1)))
            return bet(gamma)(base, nudge)

        return gate

    with mock.patch.object(modes, "bet", close_bet):
        lm.generate(messages, **options, logprobs=2, speculation="off")
    return lm.generate(messages, **options, speculation="off"), min(least)


def traces(name: str) -> list[dict[str, Any]]:
    """Answers of one bundle that would be the same on any machine."""
    found = []
    with NudgedLM.load(HERE / "bundles" / name) as lm:
        policies = ("token", "word") if lm.bundle.manifest.shared_vocabulary else ("word",)
        conversations: list[Any] = [[{"role": "user", "content": prompt}] for prompt in PROMPTS]
        wanted = [
            (messages, options, policy) for messages in conversations for options in OPTIONS for policy in policies
        ]
        wanted.append((CONVERSATION, {"gamma": 0.3}, policies[0]))
        wanted += [(CONTINUED, {"gamma": 0.3, **more}, policies[0]) for more in ({}, {"tail": "lazy"})]
        for messages, given, policy in wanted:
            options = {"max_new_tokens": 60, "policy": policy, **given}
            answer, least = watched(lm, messages, options)
            if least < CLOSE_CALL:
                continue
            found.append(
                {
                    "bundle": f"bundles/{name}",
                    "messages": messages,
                    "options": options,
                    "text": answer.text,
                    "finish_reason": answer.finish_reason,
                    "pieces": answer.to_dict()["pieces"],
                }
            )
    return found


def thinned(found: list[dict[str, Any]], keep: int) -> list[dict[str, Any]]:
    """Some of the traces: all of rare endings, of the others those with most pieces of both models."""
    counts = Counter(trace["finish_reason"] for trace in found)

    def interest(trace: dict[str, Any]) -> tuple[bool, int]:
        turns = sum(a["source"] != b["source"] for a, b in zip(trace["pieces"], trace["pieces"][1:], strict=False))
        rare = counts[trace["finish_reason"]] <= keep // 4 or "stop" in trace["options"] or len(trace["messages"]) > 1
        return rare, turns

    return sorted(found, key=interest, reverse=True)[:keep]


def main() -> None:
    """Write everything; the bundles only with `--bundles` or where they are missing."""
    for name, make in (("word", word_pair), ("token", token_pair)):
        target = HERE / "bundles" / name
        if "--bundles" in sys.argv or not target.is_dir():
            shutil.rmtree(target, ignore_errors=True)
            with tempfile.TemporaryDirectory() as scratch:
                shutil.copytree(make(Path(scratch)).bundle, target)
    tokenizer_files(HERE / "tokenizers")
    paths = [*sorted((HERE / "bundles").glob("*/*/tokenizer.json")), *sorted((HERE / "tokenizers").glob("*.json"))]
    _write("tokenizer.json", tokenizer_cases(paths))
    _write("utf8.json", utf8_cases())
    _write("templates.json", template_cases())
    _write("prompts.json", prompt_cases(sorted((HERE / "tokenizers").glob("*.json"))))
    found = [trace for name in ("word", "token") for trace in thinned(traces(name), 60)]
    _write("traces.json", found)
    print(Counter((trace["bundle"], trace["options"]["policy"], trace["finish_reason"]) for trace in found))


def _write(name: str, cases: list[dict[str, Any]]) -> None:
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
    (HERE / name).write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
