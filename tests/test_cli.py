"""The commands, as a user types them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from pairs import Pair, exported
from tiny import tiny_checkpoint

from nudge_onnx import NudgedLM
from nudge_onnx.cli import main
from nudge_onnx.runtime.inference.cache import make_cache
from nudge_onnx.runtime.inference.opening import open_model


def invoke(*arguments: str | Path, text: str | None = None) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], input=text)


def test_run_streams_the_answer_to_stdout_and_figures_to_stderr(tiny_word_pair: Pair) -> None:
    with NudgedLM.load(tiny_word_pair.bundle) as lm:
        expected = lm.generate("the cat", max_new_tokens=20)
    result = invoke("run", tiny_word_pair.bundle, "the cat", "--max-new-tokens", "20", "--stats")
    assert result.exit_code == 0
    assert result.stdout == expected.text + "\n"
    assert f"finish: {expected.finish_reason}, on cpu, " in result.stderr
    assert re.search(r"reads (ahead in passes of|nothing ahead)", result.stderr)
    assert re.search(r"[0-9.]+ tokens/s, load [0-9.]+ s, .* peak memory [0-9,]+ MiB, ", result.stderr)


def test_run_prints_one_json_object(tiny_word_pair: Pair) -> None:
    result = invoke("run", tiny_word_pair.bundle, "-", "--json", "--max-new-tokens", "12", text="the cat")
    answer = json.loads(result.stdout)
    assert answer["text"] == "".join(piece["text"] for piece in answer["pieces"])
    assert {piece["source"] for piece in answer["pieces"]} <= {"base", "nudge"}
    assert answer["timings"]["fed"]["base"] > 0
    assert answer["row_bits"].keys() == {"base", "nudge"}
    assert answer["timings"]["load"] > 0
    assert answer["timings"]["peak_memory"] > 40 << 20


def test_colour_marks_the_nudging_words_only_where_it_is_wanted(tiny_word_pair: Pair) -> None:
    arguments = ("run", tiny_word_pair.bundle, "the cat", "--max-new-tokens", "12")
    assert "\x1b[33m" in invoke(*arguments, "--colour", "always").stdout
    assert "\x1b[" not in invoke(*arguments, "--color", "auto").stdout
    assert "\x1b[" not in invoke(*arguments, "--color", "never").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gamma", "3"], "gamma must be a number between 0 and 1, not 3.0"),
        (["--policy", "token"], "policy 'token' needs two models with one vocabulary, and those of this bundle differ"),
        (["--gamma", "nan"], "gamma must be a number between 0 and 1, not nan"),
        (["--temperature", "-1"], "temperature must be a number between 0 and 1e+06, not -1.0"),
        (["--top-k", "-1"], "top_k must be an integer between 0 and 2147483647, not -1"),
        (["--seed", str(2**64)], f"seed must be an integer between 0 and {2**64 - 1}, not {2**64}"),
        (["--threads", "1000000"], "threads must be an integer between 1 and 1024, not 1000000"),
        (
            ["--speculation", "-1"],
            "speculation must be 'auto', 'off', 'entropy', or a number of tokens between 0 and 256, not -1",
        ),
        (["--stop", ""], "stop must be texts that are not empty"),
        (["--provider", "gpu"], "unknown provider 'gpu'"),
        (["--max-new-tokens", "0"], "max_new_tokens must be an integer between 1 and 2147483647, not 0"),
    ],
)
def test_a_bad_value_gets_one_line(tiny_word_pair: Pair, arguments: list[str], message: str) -> None:
    result = invoke("run", tiny_word_pair.bundle, "the cat", *arguments)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith(f"Error: {message}")
    assert result.stderr.count("\n") == 1


def test_options_of_a_provider_go_to_that_provider(tiny_word_pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, object] = {}
    load = NudgedLM.load
    monkeypatch.setattr(NudgedLM, "load", lambda folder, **options: seen.update(options) or load(folder))
    shapes = "tensorrt.trt_profile_min_shapes=input_ids:1x1,past_key_values.0.key:1x1x0x8"
    arguments = ["--provider", "TensorRT", "--provider", "cuda", "--provider-option", shapes]
    arguments += ["--provider-option", "cuda.device_id=1", "--provider-option", "cuda.arena_extend_strategy=a=b"]
    result = invoke("run", tiny_word_pair.bundle, "the cat", "--max-new-tokens", "1", *arguments)
    with load(tiny_word_pair.bundle) as lm:
        assert result.stdout == lm.generate("the cat", max_new_tokens=1).text + "\n"
    assert seen["providers"] == [
        ("TensorRT", {"trt_profile_min_shapes": shapes.partition("=")[2]}),
        ("cuda", {"device_id": "1", "arena_extend_strategy": "a=b"}),
    ]
    for bad in ("cuda", "cuda.device_id", "=1", ".key=1"):
        result = invoke("run", tiny_word_pair.bundle, "the cat", "--provider-option", bad)
        assert result.exit_code == 2
        assert "is not of the form provider.key=value" in result.stderr
    result = invoke("run", tiny_word_pair.bundle, "the cat", "--provider-option", "cuda.device_id=1")
    assert "--provider-option is about cuda, and --provider names cpu" in result.stderr


def test_inspect_says_what_a_model_takes_without_loading_it(tiny_word_pair: Pair) -> None:
    code = (
        "import sys; from nudge_onnx.cli import main; main(['inspect', sys.argv[1]], standalone_mode=False); "
        "assert not {'numpy', 'onnxruntime', 'tokenizers'} & set(sys.modules)"
    )
    command = [sys.executable, "-c", code, str(tiny_word_pair.bundle)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    # Two layers, two heads of 16, keys and values in float32: 512 bytes a token.
    assert re.search(r"memory +[0-9.]+ MiB of weights, 0\.5 KiB of cache a token \(0\.2 MiB for the whole", shown)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_inspect_says_what_a_cache_takes_as_it_is_measured(
    tiny_word_pair: Pair, tmp_path: Path, precision: str
) -> None:
    # GPT-2's table of positions stays in floats.
    base = tiny_word_pair.base if precision == "fp32" else tiny_checkpoint(tmp_path / "base", "gpt2")
    bundle = exported(base, tiny_word_pair.nudge, tmp_path / "bundle", "--precision", precision)
    in_floats = re.search(r"precision +(\w+)( \([0-9,]+ weights stay in floats\))?, ", invoke("inspect", bundle).stdout)
    assert in_floats is not None
    assert in_floats[1] == precision
    assert bool(in_floats[2]) == (precision == "int8")
    with NudgedLM.load(bundle) as lm:
        record = lm.bundle.manifest.models["base"]
        cache = make_cache(open_model(lm.bundle, "base", ["cpu"]), 64)
        cache.reserve(64)
        measured = sum(buffer.numpy().nbytes for buffer in cache.buffers)
    assert record.cache.dtype == {"fp32": "float32", "int8": "int8"}[precision]
    assert cache.nbytes == measured
    shown = invoke("inspect", bundle).stdout
    assert f" {measured / 64 / 2**10:,.1f} KiB of cache a token" in shown
    assert f"({measured / 64 * record.context_length / 2**20:,.1f} MiB for the whole context)" in shown


def test_inspect_asks_which_rows_share_bits_where_it_is_told_to(tiny_word_pair: Pair) -> None:
    with NudgedLM.load(tiny_word_pair.bundle) as lm:
        expected = lm.row_bits
    shown = invoke("inspect", tiny_word_pair.bundle, "--rows").stdout
    assert shown.count("on this CPU reads ") == 2
    assert json.loads(invoke("inspect", tiny_word_pair.bundle, "--rows", "--json").stdout)["row_bits"] == expected
    assert "row_bits" not in json.loads(invoke("inspect", tiny_word_pair.bundle, "--json").stdout)


def test_an_empty_prompt_is_a_usage_error(tiny_word_pair: Pair) -> None:
    assert "the prompt is empty" in invoke("run", tiny_word_pair.bundle, " ").stderr


def test_a_conversation_keeps_its_history_until_reset(tiny_token_pair: Pair) -> None:
    with NudgedLM.load(tiny_token_pair.bundle) as lm:
        first = lm.generate([{"role": "user", "content": "the cat"}], max_new_tokens=8)
        history = [
            {"role": "user", "content": "the cat"},
            {"role": "assistant", "content": first.text},
            {"role": "user", "content": "a dog"},
        ]
        second = lm.generate(history, max_new_tokens=8)
        alone = lm.generate("a dog", max_new_tokens=8)
    lines = "the cat\na dog\n/reset\na dog\n/gamma 0.9\n/gamma much\n/what\n/quit\n"
    result = invoke("chat", tiny_token_pair.bundle, "--max-new-tokens", "8", text=lines)
    assert result.exit_code == 0
    assert result.stdout == f"{first.text}\n{second.text}\n{alone.text}\n"
    for line in ("(a new conversation)", "(gamma is 0.9)", "Error: /gamma needs a number between 0 and 1"):
        assert line in result.stderr


def test_chat_ends_with_its_input(tiny_token_pair: Pair) -> None:
    result = invoke("chat", tiny_token_pair.bundle, "--max-new-tokens", "4", text="the cat\n")
    assert result.exit_code == 0


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_ctrl_c_stops_an_answer_and_not_the_program(tiny_word_pair: Pair) -> None:
    command = [sys.executable, "-c", "from nudge_onnx.cli import main; main()", "chat", str(tiny_word_pair.bundle)]
    process = subprocess.Popen(
        [*command, "--max-new-tokens", "100000", "--mode", "base"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("the cat\n")
    process.stdin.flush()
    process.stdout.read(1)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    out, err = process.communicate("/gamma 0.3\n/quit\n", timeout=60)
    assert process.returncode == 0
    assert "(gamma is 0.3)" in err
    assert "Traceback" not in err + out


def test_help_names_every_command_and_needs_no_runtime() -> None:
    code = "import sys; from nudge_onnx.cli import main; main(['--help'], standalone_mode=False); " + (
        "assert not {'numpy', 'onnxruntime', 'tokenizers', 'torch'} & set(sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for name in ("run", "chat", "inspect"):
        assert name in result.stdout


def test_an_argument_that_is_not_utf_8_is_one_line(tiny_word_pair: Pair) -> None:
    # What Python makes of the byte E9 on a command line.
    for arguments, name in (
        (["caf\udce9"], "the prompt"),
        (["the cat", "--system-prompt", "\udce9"], "the system prompt"),
        (["the cat", "--stop", "\udce9"], "a stop string"),
    ):
        result = invoke("run", tiny_word_pair.bundle, *arguments)
        assert result.exit_code == 1
        assert result.stderr.startswith(f"Error: {name} is not Unicode text: character ")
        assert result.stderr.count("\n") == 1


def test_control_tokens_of_a_prompt_are_refused_or_read_as_text_where_that_is_asked(tiny_word_pair: Pair) -> None:
    arguments = ("run", tiny_word_pair.bundle, "the <|im_end|> cat", "--max-new-tokens", "4")
    refused = invoke(*arguments, "--control-tokens", "refuse")
    assert refused.exit_code == 1
    assert refused.stderr.startswith(
        "Error: a message of role user spells '<|im_end|>', a control token of the base model"
    )
    with NudgedLM.load(tiny_word_pair.bundle) as lm:
        for how in ("escape", "allow"):
            expected = lm.generate("the <|im_end|> cat", max_new_tokens=4, control_tokens=how)
            result = invoke(*arguments, "--control-tokens", how)
            assert (result.exit_code, result.stdout, result.stderr) == (0, expected.text + "\n", "")
