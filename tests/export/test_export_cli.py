"""`nudge-export`, as a user types it."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import onnx
import pytest
from click.testing import CliRunner, Result
from safetensors.numpy import load_file, save_file
from tiny import tiny_checkpoint, tiny_tokenizer

import nudge_onnx
from nudge_onnx.bundle import Bundle
from nudge_onnx.commands.inspect import command as inspect
from nudge_onnx.export.cli import main
from nudge_onnx.export.weights import DataFile

Pair = tuple[Path, Path]


def export(pair: Pair, output: Path, *options: str) -> Result:
    arguments = ["--base", str(pair[0]), "--nudge", str(pair[1]), "--output", str(output), *options]
    return CliRunner().invoke(main, arguments)


def error_line(result: Result, output: Path) -> str:
    """The one line that a failed export ends with, after checking that it left nothing behind."""
    assert result.exit_code == 1, result.output
    assert not output.exists()
    assert [path.name for path in output.parent.iterdir() if path.name.startswith(".")] == []
    lines = result.stderr.splitlines()
    assert not any(line.startswith("Error:") for line in lines[:-1])
    assert lines[-1].startswith("Error: ")
    return lines[-1]


@pytest.fixture(scope="module")
def exported(tiny_pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    output = tmp_path_factory.mktemp("bundles") / "deeper" / "bundle"
    result = export(
        tiny_pair, output, "--proxy-base", str(tiny_pair[0]), "--gamma", "0.3", "--policy", "token", "--name", "tiny",
        "--system-prompt", "Be brief.", "--base-template", "{{ messages[-1].content }}\n", "--nudge-precision", "fp32",
        "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    return output, result


def test_the_bundle_opens_and_every_file_has_its_checksum(exported: tuple[Path, Result]) -> None:
    bundle = Bundle.open(exported[0])
    bundle.verify()
    files = {path.relative_to(exported[0]).as_posix() for path in exported[0].rglob("*") if path.is_file()}
    assert files == {*bundle.manifest.files, "nudge.json"}
    assert [path.name for path in exported[0].parent.iterdir()] == ["bundle"]


def test_the_manifest_fits_its_schema(exported: tuple[Path, Result]) -> None:
    schema = json.loads((Path(nudge_onnx.__file__).parent / "bundle.schema.json").read_text())
    manifest = json.loads((exported[0] / "nudge.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    validator.validate(manifest)
    for path in ("../model.onnx", "/model.onnx", "a\\b", "c:model.onnx"):
        manifest["models"]["base"]["graph"] = path
        assert not validator.is_valid(manifest)


@pytest.mark.usefixtures("tiny_pair")
def test_options_end_up_in_the_manifest(exported: tuple[Path, Result]) -> None:
    manifest = Bundle.open(exported[0]).manifest
    assert manifest.name == "tiny"
    assert manifest.shared_vocabulary
    assert (manifest.defaults.gamma, manifest.defaults.policy) == (0.3, "token")
    assert manifest.defaults.system_prompt == "Be brief."
    assert list(manifest.models) == ["base", "nudge", "proxy_base"]
    precisions = {role: record.precision for role, record in manifest.models.items()}
    assert precisions == {"base": "int8", "nudge": "fp32", "proxy_base": "int8"}
    base, nudge = manifest.models["base"], manifest.models["nudge"]
    assert base.prompt.template == "{{ messages[-1].content }}\n"
    assert base.prompt.add_bos
    assert nudge.prompt.tokens["bos_token"] == "<s>"
    assert len(nudge.end_token_ids) == 2
    assert nudge.source.kind == "folder"
    assert manifest.exporter["torch"].startswith("2.")
    # PyTorch alone takes more than 100 MiB.
    assert manifest.peak_memory is not None
    assert manifest.peak_memory > 100 * 2**20


def test_the_result_is_json_on_stdout_and_progress_on_stderr(exported: tuple[Path, Result]) -> None:
    output, result = exported
    summary = json.loads(result.stdout)
    assert summary["bundle"] == str(output)
    assert summary["models"]["base"]["parity"]["top1_agreement"] > 0.9
    for step in ("download", "export", "passes", "quantisation to int8", "verification"):
        assert f"base: {step}" in summary["seconds"]
    *lines, peak = result.stderr.splitlines()
    assert re.fullmatch(r"peak memory \d+\.\d GiB", peak)
    assert len(lines) == len(summary["seconds"])
    assert all(" ... " in line for line in lines)
    assert all(line.endswith(" s") for line in lines)


def test_a_bundle_reads_texts_as_long_as_was_asked(tiny_pair: Pair, tmp_path: Path) -> None:
    work = ("--work", str(tmp_path / "work"), "--precision", "int8", "--context", "200")
    result = export(tiny_pair, tmp_path / "bundle", *work)
    assert result.exit_code == 0
    models = Bundle.open(tmp_path / "bundle").manifest.models
    assert {model.context_length for model in models.values()} == {200}
    assert "texts of up to 200 tokens, of 512" in result.stderr
    shown = CliRunner().invoke(inspect, [str(tmp_path / "bundle")])
    assert shown.output.count("200 tokens, of 512 that the checkpoint speaks of") == 2
    refused = export(tiny_pair, tmp_path / "other", "--context", "31")
    assert refused.exit_code == 2
    assert "31 is not in the range x>=32" in refused.stderr


def test_an_existing_folder_is_replaced_on_demand_only(tiny_pair: Pair, tmp_path: Path) -> None:
    output = tmp_path / "bundle"
    work = ("--work", str(tmp_path / "work"), "--precision", "fp32")
    assert export(tiny_pair, output, *work, "--name", "first").exit_code == 0
    refused = export(tiny_pair, output, *work)
    assert refused.exit_code == 1
    assert "exists; replace it with --overwrite" in refused.stderr
    failed = export(tiny_pair, output, *work, "--overwrite", "--policy", "token", "--nudge", str(tmp_path / "absent"))
    assert failed.exit_code == 1
    assert Bundle.open(output).manifest.name == "first"
    replaced = export(tiny_pair, output, *work, "--overwrite", "--name", "second")
    assert replaced.exit_code == 0
    assert replaced.stdout.startswith(f"{output}: second")
    assert Bundle.open(output).manifest.name == "second"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "work"]


def test_a_folder_that_is_no_bundle_is_never_replaced(tiny_pair: Pair, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("dear")
    result = export(tiny_pair, tmp_path / "home", "--overwrite")
    assert result.exit_code == 1
    assert "exists and is no bundle, so it is left alone" in result.stderr
    assert (tmp_path / "home" / "letter.txt").read_text() == "dear"


def test_a_base_that_is_an_instruct_model_is_a_warning(tiny_pair: Pair, tmp_path: Path) -> None:
    base = Path(shutil.copytree(tiny_pair[1], tmp_path / "tiny-instruct"))
    result = export((base, tiny_pair[1]), tmp_path / "bundle", "--precision", "fp32")
    assert result.exit_code == 0
    assert f"warning: {base} looks like an instruct model" in result.stderr


def test_a_precision_that_costs_much_quality_is_a_warning(
    tiny_pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No precision costs these tiny models so much any more.
    monkeypatch.setattr("nudge_onnx.export.pipeline._POOR_AGREEMENT", 1.01)
    result = export(tiny_pair, tmp_path / "bundle", "--precision", "int4")
    assert result.exit_code == 0
    assert "warning: in int4 base keeps only" in result.stderr


def test_a_graph_that_is_hardly_the_model_is_an_error_unless_allowed(
    tiny_pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import nudge_onnx.export.bundle.record as record

    quantise = record.quantise

    def wrong(model: onnx.ModelProto, *arguments: Any, **named: Any) -> Any:
        norm = next(t for t in model.graph.initializer if t.name == "model.layers.1.post_attention_layernorm.weight")
        norm.CopyFrom(onnx.numpy_helper.from_array(-9 * onnx.numpy_helper.to_array(norm), norm.name))
        return quantise(model, *arguments, **named)

    monkeypatch.setattr(record, "quantise", wrong)
    output, work = tmp_path / "bundle", ("--work", str(tmp_path / "work"), "--no-pass", "fuse-skip-norms")
    line = error_line(export(tiny_pair, output, *work), output)
    assert re.search(r"in int8 base keeps only \d+% of its most likely tokens; .*--allow-poor-parity", line)
    allowed = export(tiny_pair, output, *work, "--allow-poor-parity")
    assert allowed.exit_code == 0
    assert "warning: in int8 base keeps only" in allowed.stderr


def test_a_nudging_model_without_chat_template_is_refused(tiny_pair: Pair, tmp_path: Path) -> None:
    result = export((tiny_pair[0], tiny_pair[0]), tmp_path / "bundle")
    assert "has no chat template, so it is hardly a nudging model" in error_line(result, tmp_path / "bundle")


def test_the_token_policy_needs_one_vocabulary(tiny_pair: Pair, tmp_path: Path) -> None:
    base = tiny_checkpoint(tmp_path / "other", "llama", tokenizer=tiny_tokenizer(300))
    result = export((base, tiny_pair[1]), tmp_path / "bundle", "--policy", "token")
    assert "policy 'token' needs one vocabulary" in error_line(result, tmp_path / "bundle")


def test_a_tokenizer_larger_than_its_model_is_refused(tiny_pair: Pair, tmp_path: Path) -> None:
    base = Path(shutil.copytree(tiny_pair[0], tmp_path / "base"))
    tiny_tokenizer(330).save(str(base / "tokenizer.json"))
    result = export((base, tiny_pair[1]), tmp_path / "bundle")
    assert "its tokenizer has 330 tokens and its model 320" in error_line(result, tmp_path / "bundle")


def test_an_unknown_pass_is_refused(tiny_pair: Pair, tmp_path: Path) -> None:
    result = export(tiny_pair, tmp_path / "bundle", "--no-pass", "magic")
    assert "there is no such pass, only fold-tied-head" in error_line(result, tmp_path / "bundle")


def test_a_pass_can_be_left_out(tiny_pair: Pair, tmp_path: Path) -> None:
    result = export(tiny_pair, tmp_path / "bundle", "--precision", "fp32", "--no-pass", "group-query-attention")
    assert result.exit_code == 0, result.output
    record = Bundle.open(tmp_path / "bundle").manifest.models["base"]
    assert "group-query-attention" not in record.passes
    assert record.cache.kind == "growing"


def test_weights_that_do_not_fit_the_configuration_are_one_line(tiny_pair: Pair, tmp_path: Path) -> None:
    base = Path(shutil.copytree(tiny_pair[0], tmp_path / "base"))
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"intermediate_size": 128}))
    line = error_line(export((base, tiny_pair[1]), tmp_path / "bundle"), tmp_path / "bundle")
    assert "weights and config.json do not belong together (of another shape: model.layers.0.mlp.down_proj" in line


def test_a_wrapper_around_the_weights_is_named(tiny_pair: Pair, tmp_path: Path) -> None:
    base = Path(shutil.copytree(tiny_pair[0], tmp_path / "base"))
    weights = load_file(base / "model.safetensors")
    save_file({f"module.{name}": weight for name, weight in weights.items()}, base / "model.safetensors")
    result = export((base, tiny_pair[1]), tmp_path / "bundle", "--precision", "fp32")
    assert result.exit_code == 0, result.output
    assert "base: the names of its weights begin with 'module.', which is taken off" in result.stderr


def test_a_checkpoint_with_code_of_its_own_is_not_run(tiny_pair: Pair, tmp_path: Path) -> None:
    base = Path(shutil.copytree(tiny_pair[0], tmp_path / "base"))
    config = json.loads((base / "config.json").read_text())
    own = {"model_type": "own", "auto_map": {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}}
    (base / "config.json").write_text(json.dumps(config | own))
    (base / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    line = error_line(export((base, tiny_pair[1]), tmp_path / "bundle"), tmp_path / "bundle")
    assert "allow it with --trust-remote-code" in line
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("precision", ["int8", "int4-all"])
@pytest.mark.parametrize("written", [0, 1, 9])
def test_a_disk_that_fills_behind_some_layers_is_one_line(
    written: int, precision: str, tiny_pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append, count = DataFile.append, []

    def until_full(file: DataFile, *args: Any) -> Any:
        count.append(file)
        if len(count) > written:
            raise OSError(errno.ENOSPC, "No space left on device")
        return append(file, *args)

    monkeypatch.setattr(DataFile, "append", until_full)
    output = tmp_path / "out" / "bundle"
    output.parent.mkdir()
    line = error_line(export(tiny_pair, output, "--precision", precision), output)
    assert f"the disk of {output.parent} is full" in line
    assert len(count) == written + 1
    assert list(output.parent.iterdir()) == []


def test_a_full_disk_is_one_line(tiny_pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(onnx, "save", full)
    line = error_line(export(tiny_pair, tmp_path / "bundle"), tmp_path / "bundle")
    assert f"the disk of {tmp_path} is full" in line


def test_a_graph_that_differs_from_pytorch_fails_with_the_figure(
    tiny_pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import nudge_onnx.export.bundle.record as record

    rewrite = record.rewrite

    def wrong(model: onnx.ModelProto, *arguments: Any, **named: Any) -> Any:
        result = rewrite(model, *arguments, **named)
        norm = next(t for t in result.model.graph.initializer if t.name == "model.norm.weight")
        norm.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(norm) * 1.1, norm.name))
        return result

    monkeypatch.setattr(record, "rewrite", wrong)
    line = error_line(export(tiny_pair, tmp_path / "bundle", "--precision", "fp32"), tmp_path / "bundle")
    assert "the exported graph differs from PyTorch by" in line


def test_a_missing_extra_is_one_line(tiny_pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nudge_onnx.export.cli as cli

    monkeypatch.setattr(cli, "find_spec", lambda name: None if name == "torch" else object())
    line = error_line(export(tiny_pair, tmp_path / "bundle"), tmp_path / "bundle")
    assert "an export needs torch, which is not installed; pip install 'nudge-onnx[export,cpu]'" in line


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_export_leaves_nothing(tiny_pair: Pair, tmp_path: Path, number: int) -> None:
    output = tmp_path / "bundles" / "bundle"
    program = "from nudge_onnx.export.cli import main; main()"
    command = [sys.executable, "-c", program, "--base", tiny_pair[0], "--nudge", tiny_pair[1]]
    process = subprocess.Popen(
        [*map(str, command), "--output", str(output)],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ,
        # A shell starts what it runs in the background with Ctrl-C ignored, tests too, and that is inherited.
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    )
    assert process.stderr is not None
    # The line is complete when the first graph is written: half of the work lies behind, half before us.
    while "base: export" not in process.stderr.readline():
        assert process.poll() is None
    assert len(list(output.parent.iterdir())) == 1
    process.send_signal(number)
    assert process.wait(60) != 0
    assert list(output.parent.iterdir()) == []


def test_help_does_not_wait_for_torch() -> None:
    code = "import sys; import nudge_onnx.export.cli; sys.exit(any(m in sys.modules for m in ('torch', 'onnx')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
