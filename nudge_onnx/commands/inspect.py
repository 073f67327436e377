"""`nudge-onnx inspect`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from nudge_onnx.bundle import Bundle, ModelRecord
from nudge_onnx.commands.options import READS_AHEAD, bundle_argument
from nudge_onnx.console import as_json, write

__all__ = ["command"]

_COPIED = "; copied at every step, which slows down behind long texts"
_TITLES = {"base": "base model", "nudge": "nudging model", "proxy_base": "proxy base model"}


@click.command("inspect")
@bundle_argument
@click.option("--json", "json_wanted", is_flag=True, help="Print the manifest as JSON.")
@click.option("--check", is_flag=True, help="Read every file and compare its SHA-256.")
@click.option("--rows", is_flag=True, help="Open the models on this CPU and say how they are read here.")
def command(folder: Path, json_wanted: bool, check: bool, rows: bool) -> None:
    """Show what the bundle DIR holds: models, sizes, precision, licences, parity with PyTorch, defaults."""
    bundle = Bundle.open(folder)
    if check:
        bundle.verify(lambda path: click.echo(f"checking {path}", err=True))
    here = _here(folder) if rows else {}
    if json_wanted:
        write(as_json(asdict(bundle.manifest) | here))
    else:
        write("\n".join(_lines(bundle, here, checked=check)) + "\n")


def _here(folder: Path) -> dict[str, dict[str, Any]]:
    """What is known of the models once they are open, by name and role."""
    # Only here: who reads a manifest should not wait for the runtime.
    from nudge_onnx.runtime.lm import NudgedLM

    with NudgedLM.load(folder) as lm:
        return {"row_bits": dict(lm.row_bits), "batches": lm.batches}


def _lines(bundle: Bundle, here: Mapping[str, Mapping[str, Any]], *, checked: bool) -> Iterator[str]:
    manifest, defaults = bundle.manifest, bundle.manifest.defaults
    yield f"{manifest.name}  (bundle format {manifest.version}, created {manifest.created})"
    scaled = f" at temperature {defaults.gate_temperature:g}" if defaults.gate_temperature != 1 else ""
    yield (
        f"gamma {defaults.gamma}, policy {defaults.policy}, gate {defaults.gate}{scaled}, tail {defaults.tail}, "
        f"drafts of {defaults.draft_tokens} tokens, "
        f"{'one shared vocabulary' if manifest.shared_vocabulary else 'two vocabularies'}"
    )
    for role, model in manifest.models.items():
        yield f"\n{_TITLES[role]}"
        for label, value in [*_rows(bundle, model), *_on_this_cpu(role, **here)]:
            yield f"  {label:<12}{value}"
    if checked:
        yield f"\nall {len(manifest.files)} files match their SHA-256"


def _rows(bundle: Bundle, model: ModelRecord) -> list[tuple[str, str]]:
    size = sum(bundle.manifest.files[path].bytes for path in (model.graph, model.tokenizer, *model.external_data))
    source = model.source
    rows = [
        ("source", f"{source.name} ({source.kind}{', ' + source.revision if source.revision else ''})"),
        ("licence", source.licence or "not stated by its source"),
        ("model", f"{model.architecture}, {_millions(model.parameters)}vocabulary {model.vocabulary_size:,}"),
        ("context", _context(model)),
        ("precision", f"{model.precision}{_in_floats(model)}, {size / 1e6:,.1f} MB with its tokenizer"),
        ("cache", f"{model.cache.kind}, {model.cache.dtype}{_COPIED if model.cache.kind == 'growing' else ''}"),
        ("memory", _memory(bundle, model)),
        ("passes", ", ".join(model.passes) or "none"),
    ]
    if model.parity:
        parity = model.parity
        rows.append(
            (
                "parity",
                f"top-1 agreement {parity.top1_agreement:.1%}, KL {parity.kl:.2g}, largest logit difference "
                f"{parity.relative:.1e} of the range, over {parity.positions} positions against PyTorch fp32",
            )
        )
    return rows


def _on_this_cpu(
    role: str, row_bits: Mapping[str, str] | None = None, batches: Mapping[str, bool] | None = None
) -> list[tuple[str, str]]:
    if row_bits is None or batches is None:
        return []
    shared = "answers at once share passes" if batches[role] else "answers at once take turns"
    return [("on this CPU", f"{READS_AHEAD[row_bits[role]]}; {shared}")]


def _context(model: ModelRecord) -> str:
    claimed = model.claimed_context or 0
    cut = f", of {claimed:,} that the checkpoint speaks of" if claimed > model.context_length else ""
    return f"{model.context_length:,} tokens{cut}"


def _memory(bundle: Bundle, model: ModelRecord) -> str:
    """What the model takes at the least: its weights, and its cache by the length of the text."""
    weights = sum(bundle.manifest.files[path].bytes for path in (model.graph, *model.external_data))
    token = model.cache.position_bytes
    return (
        f"{weights / 2**20:,.1f} MiB of weights, {token / 2**10:,.1f} KiB of cache a token "
        f"({token * model.context_length / 2**20:,.1f} MiB for the whole context)"
    )


def _in_floats(model: ModelRecord) -> str:
    """What is left as it was where the others have fewer bits."""
    if not model.precision.startswith("int") or not model.float_weights:
        return ""
    return f" ({model.float_weights:,} weights stay in floats)"


def _millions(parameters: int | None) -> str:
    return f"{parameters / 1e6:,.0f} M parameters, " if parameters else ""
