"""Writes a Llama checkpoint of any size with random bf16 weights, in shards with an index: to see what an export takes.

python -m benchmarks.synthetic_checkpoint FOLDER           # the shape of Llama-2-7B, 13.5 GB
python -m benchmarks.synthetic_checkpoint FOLDER --layers 4

What such a model says means nothing; how much memory and time its export takes is that of a real one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

__all__ = ["main"]

_SHAPES = {
    "self_attn.q_proj": ("hidden", "hidden"),
    "self_attn.k_proj": ("hidden", "hidden"),
    "self_attn.v_proj": ("hidden", "hidden"),
    "self_attn.o_proj": ("hidden", "hidden"),
    "mlp.gate_proj": ("inner", "hidden"),
    "mlp.up_proj": ("inner", "hidden"),
    "mlp.down_proj": ("hidden", "inner"),
}


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--layers", default=32, show_default=True)
@click.option("--hidden", default=4096, show_default=True)
@click.option("--inner", default=11008, show_default=True)
@click.option("--vocabulary", default=32_000, show_default=True)
def main(folder: Path, layers: int, hidden: int, inner: int, vocabulary: int) -> None:
    """Write the checkpoint: one shard for each layer and one for the rest."""
    import torch
    from safetensors.torch import save_file
    from transformers import LlamaConfig

    folder.mkdir(parents=True)
    sizes = {"hidden": hidden, "inner": inner}
    draw = torch.Generator().manual_seed(0)
    index: dict[str, str] = {}

    def shard(number: int, weights: dict[str, Any]) -> None:
        file = f"model-{number + 1:05d}-of-{layers + 1:05d}.safetensors"
        save_file(weights, folder / file, metadata={"format": "pt"})
        index.update(dict.fromkeys(weights, file))
        click.echo(file, err=True)

    def matrix(rows: int, columns: int) -> Any:
        return torch.empty(rows, columns, dtype=torch.bfloat16).normal_(0, columns**-0.5, generator=draw)

    for layer in range(layers):
        prefix = f"model.layers.{layer}"
        weights = {
            f"{prefix}.{name}.weight": matrix(sizes[rows], sizes[columns]) for name, (rows, columns) in _SHAPES.items()
        }
        for norm in ("input_layernorm", "post_attention_layernorm"):
            weights[f"{prefix}.{norm}.weight"] = torch.ones(hidden, dtype=torch.bfloat16)
        shard(layer, weights)
    shard(
        layers,
        {
            "model.embed_tokens.weight": matrix(vocabulary, hidden),
            "lm_head.weight": matrix(vocabulary, hidden),
            "model.norm.weight": torch.ones(hidden, dtype=torch.bfloat16),
        },
    )
    text = json.dumps({"metadata": {}, "weight_map": index}, indent=1)
    (folder / "model.safetensors.index.json").write_text(text, encoding="utf-8")
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 128,
        num_key_value_heads=hidden // 128,
        max_position_embeddings=4096,
        architectures=["LlamaForCausalLM"],
        bos_token_id=0,
        eos_token_id=0,
    )
    config.save_pretrained(folder)
    _write_tokenizer(folder)


def _write_tokenizer(folder: Path) -> None:
    """As many characters a token as real ones have: trained on the text that an export reads."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    from nudge_onnx.export.source.calibration_text import calibration_text

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=1500, special_tokens=["<end>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([calibration_text()], trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>").save_pretrained(folder)


if __name__ == "__main__":
    main()
