"""The C# client, compiled and run: the same answers as Python, and the same refusals."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conformance.texts import all_texts
from pairs import Pair, exported

from nudge_onnx import NudgedLM, NudgeError
from nudge_onnx.bundle import Bundle, Prompt
from nudge_onnx.runtime.text.control_tokens import ControlTokens, prompt_ids
from nudge_onnx.runtime.text.tokenizer import Tokenizer
from tests.csharp.build import ROSLYN, Built, ToolchainError, build, run, unpacked

VECTORS = Path(__file__).resolve().parents[1] / "conformance"
Sample = Callable[..., Any]


@pytest.fixture(scope="session")
def client() -> Built:
    return build()


@pytest.fixture(scope="session")
def sample(client: Built) -> Sample:
    """Runs the console sample and returns the finished process."""
    return lambda *arguments: run([*client.console, *map(str, arguments)])


@pytest.fixture(scope="session")
def tiny_growing_bundle(tiny_word_pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The word pair without attention rewritten in place: what TensorRT gets."""
    options = ("--target", "tensorrt", "--precision", "fp32")
    output = tmp_path_factory.mktemp("growing") / "bundle"
    return exported(tiny_word_pair.base, tiny_word_pair.nudge, output, *options)


@pytest.fixture(scope="session")
def tiny_steady_bundle(tiny_word_pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The word pair in int8, whose passes may have one row."""
    output = tmp_path_factory.mktemp("steady") / "bundle"
    return exported(tiny_word_pair.base, tiny_word_pair.nudge, output, "--precision", "int8")


def conform(client: Built, kind: str, file: Path, *more: str) -> int:
    """Run the conformance program on a file of vectors; returns how many comparisons held, all of them."""
    done = run([*client.conformance, kind, str(file), *more])
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    counts = json.loads(done.stdout.splitlines()[-1])
    assert counts["different"] == 0
    return int(counts["equal"])


@pytest.mark.parametrize("missing", ["node", "npm"])
def test_a_missing_tool_is_named_in_one_line(missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a machine fails these tests; it does not skip them."""
    for tool in {"node", "npm"} - {missing}:
        (tmp_path / tool).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolchainError) as refused:
        unpacked(ROSLYN, tmp_path / "cache")
    assert str(refused.value).startswith(f"building the C# client needs {missing} on the PATH")


# --- the vectors


def test_texts_have_the_same_ids(client: Built) -> None:
    file = VECTORS / "tokenizer.json"
    wanted = sum(1 + len(t["token_bytes"]) + 2 * len(t["cases"]) for t in json.loads(file.read_text("utf-8")))
    assert conform(client, "tokenizer", file) == wanted


def test_fresh_random_texts_have_the_same_ids(client: Built, tmp_path: Path) -> None:
    paths = [*VECTORS.glob("bundles/*/*/tokenizer.json"), *VECTORS.glob("tokenizers/*.json")]
    assert conform(client, "tokenizer", fuzz(paths, tmp_path, 400)) == len(paths) * (1 + 2 * (400 + 30))


def fuzz(paths: list[Path], folder: Path, count: int) -> Path:
    """Vectors of many random texts for some tokenizers."""
    texts, vectors = all_texts(seed=97, count=count), []
    for path in paths:
        ours = Tokenizer(path)
        cases = [{"text": t, "ids": ours.encode(t), "prompt_ids": ours.encode_prompt(t, False)[0]} for t in texts]
        prefix = ours.encode_prompt("", True)[0]
        vectors.append({"file": str(path.resolve()), "prefix": prefix, "token_bytes": [], "cases": cases})
    file = folder / "fuzz.json"
    file.write_text(json.dumps(vectors), encoding="utf-8")
    return file


def test_bytes_become_the_same_text(client: Built) -> None:
    file = VECTORS / "utf8.json"
    assert conform(client, "utf8", file) == len(json.loads(file.read_text("utf-8")))


def test_templates_render_the_same_prompts(client: Built) -> None:
    file = VECTORS / "templates.json"
    assert conform(client, "templates", file) == len(json.loads(file.read_text("utf-8")))


CHAT = (
    "{{ bos }}{% for message in messages %}"
    "{{ begin + message.role }}\n{{ message.content | trim }}{{ end }}\n{% endfor %}"
)
PLAIN = "{% for message in messages %}{{ message.content }}\n{% endfor %}"
TOKENS = {"bos": "<s>", "begin": "<|im_start|>", "end": "<|im_end|>"}


def test_messages_that_spell_control_tokens_have_the_same_prompts(client: Built) -> None:
    file = VECTORS / "prompts.json"
    assert conform(client, "prompts", file) == len(json.loads(file.read_text("utf-8")))


def test_prompts_have_the_same_blocks(client: Built, tmp_path: Path) -> None:
    texts = [text for text in all_texts(seed=5, count=600) if text.strip()]
    draw = random.Random(7)
    vectors = []
    for path in [*VECTORS.glob("bundles/*/*/tokenizer.json"), *VECTORS.glob("tokenizers/*.json")]:
        tokenizer = Tokenizer(path)
        model = json.loads(path.read_text(encoding="utf-8"))["model"]
        unknown = model["vocab"].get(model.get("unk_token"))
        for number in range(16):
            roles = ("user", "assistant", "user") if number % 2 else ("user",)
            messages = [
                {"role": role, "content": " ".join(draw.choices(texts, k=draw.choice((1, 8, 30))))} for role in roles
            ]
            template = draw.choice((CHAT, PLAIN))
            way: ControlTokens = draw.choice(("allow", "escape"))
            prompt = prompt_ids(Prompt(template, TOKENS), messages, tokenizer, "base", way)
            answer = draw.choice(texts)
            if unknown in prompt.ids:
                continue  # C# places ids by the bytes that they write, and an unknown character has none
            vectors.append(
                {"file": str(path.resolve()), "template": template, "tokens": TOKENS, "messages": messages}
                | {"control_tokens": way}
                | {"ids": prompt.ids, "blocks": prompt.blocks, "answer": answer, "answer_ids": prompt.encode(answer)}
            )
    assert sum(len(vector["blocks"]) for vector in vectors) > 50
    assert any(0 < len(vector["blocks"]) < len(vector["ids"]) // 128 - 1 for vector in vectors)
    file = tmp_path / "prompts.json"
    file.write_text(json.dumps(vectors), encoding="utf-8")
    assert conform(client, "prompts", file) == 3 * len(vectors)


def test_the_same_rows_share_bits(
    client: Built, tiny_word_pair: Pair, tiny_steady_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUDGE_ONNX_CACHE", str(tmp_path))
    for number, bundle in enumerate((tiny_word_pair.bundle, tiny_steady_bundle), 1):
        for _ in range(2):
            done = run([*client.conformance, "rows", str(bundle)])
            assert done.returncode == 0, done.stderr
            with NudgedLM.load(bundle, cache_dir=tmp_path / "python") as lm:
                assert json.loads(done.stdout) == lm.row_bits
        # Both models, remembered once.
        assert len(list(tmp_path.glob("rows-*.txt"))) == 2 * number


def test_what_was_remembered_of_rows_is_believed_or_asked_again(
    client: Built, tiny_steady_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUDGE_ONNX_CACHE", str(tmp_path))
    found = json.loads(run([*client.conformance, "rows", str(tiny_steady_bundle)]).stdout)
    files = list(tmp_path.glob("rows-*.txt"))
    for file in files:
        file.write_text("None\n" + file.read_text().split("\n", 1)[1])
    assert json.loads(run([*client.conformance, "rows", str(tiny_steady_bundle)]).stdout) == dict.fromkeys(
        found, "none"
    )
    for damage in ("", "All", "Most\nx", "All\nanother processor"):
        for file in files:
            file.write_text(damage)
        assert json.loads(run([*client.conformance, "rows", str(tiny_steady_bundle)]).stdout) == found


READ_AHEAD = pytest.mark.parametrize("read_ahead", [(), ("0",), ("4",)], ids=["measured", "0", "4"])


def same_answers(client: Built, file: Path, *read_ahead: str) -> None:
    # Text, finish reason, pieces (sources, texts and ids) and top-1 probabilities of each.
    assert conform(client, "traces", file, *read_ahead) == 4 * len(json.loads(file.read_text("utf-8")))


def answers_of_python(bundle: Path, folder: Path) -> Path:
    """Traces of a bundle that is made here, so that there are no vectors for it."""
    # Answers that begin before and end behind a cache's first capacity, or at the end of the context.
    long = ["the cat sat on a mat " * count for count in (20, 41)]
    with NudgedLM.load(bundle) as lm:
        traces = [
            {
                "bundle": str(bundle),
                "messages": [{"role": "user", "content": prompt}],
                "options": {"max_new_tokens": 40, **options},
                **lm.generate(prompt, max_new_tokens=40, **options).to_dict(),
            }
            for prompt in ("the cat sat", "Why?", "so be it", *long)
            for options in ({"gamma": 0.0}, {"gamma": 0.3}, {"gamma": 1.0}, {"gamma": 0.1, "gate": "margin"})
        ]
    file = folder / "traces.json"
    file.write_text(json.dumps(traces), encoding="utf-8")
    return file


@READ_AHEAD
def test_answers_are_the_same_piece_by_piece(client: Built, read_ahead: tuple[str, ...]) -> None:
    same_answers(client, VECTORS / "traces.json", *read_ahead)


def test_a_bundle_of_format_1_0_gives_the_same_answers(client: Built, tmp_path: Path) -> None:
    for name in ("word", "token"):
        edit(shutil.copytree(VECTORS / "bundles" / name, tmp_path / "bundles" / name), make_older)
    same_answers(client, Path(shutil.copy(VECTORS / "traces.json", tmp_path)))


def make_older(manifest: dict[str, Any]) -> None:
    manifest["version"] = "1.0"
    for model in manifest["models"].values():
        del model["steady_rows"]
        for name in ("top1_id", "top1_probability", "log_sum_exp", "top2_logit", "entropy"):
            del model["io"][name]


def test_a_growing_cache_gives_the_same_answers(client: Built, tiny_growing_bundle: Path, tmp_path: Path) -> None:
    assert {model.cache.kind for model in Bundle.open(tiny_growing_bundle).manifest.models.values()} == {"growing"}
    same_answers(client, answers_of_python(tiny_growing_bundle, tmp_path))


@READ_AHEAD
def test_passes_of_one_row_give_the_same_answers(
    client: Built, tiny_steady_bundle: Path, tmp_path: Path, read_ahead: tuple[str, ...]
) -> None:
    assert all(model.steady_rows for model in Bundle.open(tiny_steady_bundle).manifest.models.values())
    same_answers(client, answers_of_python(tiny_steady_bundle, tmp_path), *read_ahead)


@pytest.mark.parametrize("name", ["word", "token"])
def test_streams_may_be_awaited_left_cancelled_and_run_in_parallel(client: Built, name: str) -> None:
    assert conform(client, "streams", VECTORS / "bundles" / name) == 23


@pytest.mark.parametrize("kind", ["fp32", "int8", "wide", "growing"])
def test_a_fault_in_any_pass_leaves_a_cache_to_rely_on(
    client: Built,
    kind: str,
    tiny_word_pair: Pair,
    tiny_wide_pair: Pair,
    tiny_steady_bundle: Path,
    tiny_growing_bundle: Path,
) -> None:
    bundles = {"fp32": tiny_word_pair.bundle, "int8": tiny_steady_bundle, "wide": tiny_wide_pair.bundle}
    assert conform(client, "faults", bundles.get(kind, tiny_growing_bundle)) >= 12


# --- the console sample


def test_the_sample_prints_what_the_command_prints(sample: Sample) -> None:
    options = ["--max-new-tokens", "30", "--gamma", "0.3"]
    with NudgedLM.load(VECTORS / "bundles" / "word") as lm:
        wanted = lm.generate("the cat", max_new_tokens=30, gamma=0.3).to_dict()
    found = json.loads(sample("run", VECTORS / "bundles" / "word", "the cat", "--json", *options).stdout)
    assert found.keys() == wanted.keys()
    assert found["timings"].keys() == wanted["timings"].keys()
    assert found["timings"]["peak_memory"] > 20 << 20
    for same in ("text", "finish_reason", "tokens"):
        assert found[same] == wanted[same]
    assert [p["token_ids"] for p in found["pieces"]] == [list(p["token_ids"]) for p in wanted["pieces"]]
    assert sample("run", VECTORS / "bundles" / "word", "the cat", *options).stdout == wanted["text"] + "\n"


def test_an_unknown_option_is_a_usage_error(sample: Sample) -> None:
    done = sample("run", VECTORS / "bundles" / "word", "the cat", "--nonsense", "1")
    assert (done.returncode, done.stdout) == (2, "")
    assert "unknown option --nonsense" in done.stderr


# --- bad input


def break_nothing(folder: Path) -> None:
    shutil.rmtree(folder)


def break_manifest(folder: Path) -> None:
    (folder / "nudge.json").unlink()


def break_json(folder: Path) -> None:
    (folder / "nudge.json").write_text("{", encoding="utf-8")


def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "nudge.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    change(data)
    path.write_text(json.dumps(data), encoding="utf-8")


def break_format(folder: Path) -> None:
    edit(folder, lambda data: data.update(format="else"))


def break_version(folder: Path) -> None:
    edit(folder, lambda data: data.update(version="2.0"))


def break_field(folder: Path) -> None:
    edit(folder, lambda data: data["models"]["base"].pop("context_length"))


def break_type(folder: Path) -> None:
    edit(folder, lambda data: data["models"]["base"].update(end_token_ids="none"))


def break_role(folder: Path) -> None:
    edit(folder, lambda data: data["models"].pop("nudge"))


def break_path(folder: Path) -> None:
    edit(folder, lambda data: data["models"]["base"].update(graph="../base.onnx") or _list(data, "../base.onnx"))


def _list(data: dict[str, Any], name: str) -> None:
    data["files"][name] = {"bytes": 1, "sha256": ""}


def break_listing(folder: Path) -> None:
    edit(folder, lambda data: data["files"].pop("base/tokenizer.json"))


def break_file(folder: Path) -> None:
    (folder / "nudge" / "model.onnx").unlink()


def break_size(folder: Path) -> None:
    (folder / "nudge" / "tokenizer.json").write_text("{}", encoding="utf-8")


def break_link(folder: Path) -> None:
    path = folder / "nudge" / "tokenizer.json"
    target = folder.parent / "outside.json"
    shutil.move(path, target)
    path.symlink_to(target)


def break_graph(folder: Path) -> None:
    path = folder / "base" / "model.onnx"
    path.write_bytes(bytes(path.stat().st_size))


def break_tokenizer(folder: Path) -> None:
    path = folder / "base" / "tokenizer.json"
    path.write_bytes(b" " * path.stat().st_size)


BREAKS = {
    break_nothing: "is not a folder",
    break_manifest: "holds no nudge.json",
    break_json: "nudge.json is not valid JSON",
    break_format: "is not a nudge-onnx-bundle manifest",
    break_version: "bundle format 2.0 is not supported, this release reads 1.x",
    break_field: "nudge.json lacks the field 'models.base.context_length'",
    break_type: "nudge.json has an ill-formed field",
    break_role: "nudge.json lists no 'nudge' model",
    break_path: "models.base.graph must be a path that never leaves the bundle",
    break_listing: "nudge.json uses base/tokenizer.json and does not list it under files",
    break_file: "nudge/model.onnx is missing from the bundle",
    break_size: "nudge/tokenizer.json has 2 bytes instead of",
    break_link: "nudge/tokenizer.json is a symbolic link that leaves the bundle",
    break_graph: "ONNX Runtime cannot open base/model.onnx",
    break_tokenizer: "tokenizer.json cannot be read",
}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return Path(shutil.copytree(VECTORS / "bundles" / "word", tmp_path / "bundle"))


@pytest.mark.parametrize(("harm", "message"), BREAKS.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_a_bad_bundle_is_refused_with_one_line(
    sample: Sample, bundle: Path, harm: Callable[[Path], None], message: str
) -> None:
    harm(bundle)
    done = sample("run", bundle, "hello")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    assert message in done.stderr
    with pytest.raises(NudgeError, match=message.replace("'", ".")):
        NudgedLM.load(bundle)


def test_a_tampered_file_is_found_by_checking_hashes(sample: Sample, bundle: Path) -> None:
    assert sample("check", bundle).returncode == 0
    path = bundle / "base" / "model.onnx"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    done = sample("check", bundle)
    assert (done.returncode, done.stdout) == (1, "")
    message = "base/model.onnx does not match its SHA-256"
    assert message in done.stderr
    with pytest.raises(NudgeError, match=message):
        Bundle.open(bundle).verify()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--provider", "abacus"], "unknown provider 'abacus'; available here: "),
        (["--provider", "cuda"], "provider 'cuda' "),
        (["--provider-option", "cpu.enable_cuda_graph=1"], "cpu option enable_cuda_graph replays the first pass"),
        (["--gamma", "1.5"], "gamma must be between 0 and 1, not 1.5"),
        (["--policy", "sentence"], "unknown policy 'sentence'; use 'word' or 'token'"),
        (["--policy", "token"], "policy 'token' needs two models with one vocabulary"),
        (["--gate", "coin"], "unknown gate 'coin'"),
        (["--max-new-tokens", "0"], "must be 1 or more"),
    ],
)
def test_an_option_out_of_range_is_refused_with_one_line(sample: Sample, arguments: list[str], message: str) -> None:
    done = sample("run", VECTORS / "bundles" / "word", "hello", *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_provider_that_is_missing_may_have_a_fallback(sample: Sample) -> None:
    done = sample("run", VECTORS / "bundles" / "word", "hello", "--provider", "cuda", "--provider", "cpu")
    assert done.returncode == 0, done.stderr


def test_a_prompt_that_is_too_long_is_refused(sample: Sample) -> None:
    prompt = "the cat sat on a mat " * 200
    with NudgedLM.load(VECTORS / "bundles" / "word") as lm, pytest.raises(NudgeError) as wanted:
        lm.generate(prompt)
    done = sample("run", VECTORS / "bundles" / "word", prompt)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"Error: {wanted.value}\n"
