"""Tiny randomly initialised checkpoints: real architectures of two layers that export and run in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from architectures import ARCHITECTURES

__all__ = ["CHAT_TEMPLATE", "tiny_checkpoint", "tiny_tokenizer"]

BOS, EOS, IM_START, IM_END = "<s>", "</s>", "<|im_start|>", "<|im_end|>"

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

CORPUS = (
    "The sky is blue because small molecules scatter short waves more than long ones.",
    "A base model knows a lot, and a small aligned model knows how to answer.",
    "Question: what is 12 + 30? Answer: 42. Step 1: add the tens. Step 2: add the ones.",
    "def add(a, b):\n    return a + b\n\nprint(add(1, 2))\n",
    "Über den Wolken muss die Freiheit wohl grenzenlos sein. 日本語の文章。 Ελληνικά. 😀 naïve café.",
    "- first item\n- second item\n\nIn conclusion, there are many   reasons why.",
)


def tiny_tokenizer(vocabulary: int = 320, *, bos: bool = True, corpus: tuple[str, ...] = CORPUS) -> Any:
    """A trained byte-level BPE `tokenizers.Tokenizer`; with `bos` its post-processor puts `<s>` first.

    Two vocabulary sizes give two tokenizers that cut the same text differently.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[BOS, EOS, IM_START, IM_END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
        )
    return tokenizer


def tiny_checkpoint(
    folder: Path,
    architecture: str,
    seed: int = 0,
    scale: float = 1.0,
    tokenizer: Any = None,
    chat: bool = False,
    tied: bool = False,
    **overrides: Any,
) -> Path:
    """Write a checkpoint (safetensors, configuration, tokenizer) of about 100,000 parameters and return its folder.

    `architecture` is a key of `ARCHITECTURES`. With `scale` 1 the standard deviation of the logits is about 1; larger
    values multiply it, so that the top-1 probability spreads between uncertain (1) and almost sure (10). `tokenizer` is
    a `tokenizers.Tokenizer` (default: `tiny_tokenizer()`). `chat` adds a chat template and two end tokens. `tied`
    shares head and embedding, as many small models do. `overrides` replace entries of the configuration.
    """
    import torch
    import transformers

    tokenizer = tokenizer or tiny_tokenizer()
    known = ARCHITECTURES[architecture]
    end = [tokenizer.token_to_id(IM_END), tokenizer.token_to_id(EOS)] if chat else tokenizer.token_to_id(EOS)
    config = getattr(transformers, f"{known.kind}Config")(
        **{**known.sizes, **overrides},
        vocab_size=tokenizer.get_vocab_size(),
        tie_word_embeddings=tied,
        bos_token_id=tokenizer.token_to_id(BOS),
        eos_token_id=tokenizer.token_to_id(EOS),
        pad_token_id=tokenizer.token_to_id(EOS),
    )
    torch.manual_seed(seed)
    model = getattr(transformers, known.model_class or f"{known.kind}ForCausalLM")(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            # Norms and biases start at exactly one or zero; a graph that drops one of them would go unnoticed.
            if parameter.dim() == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
        model.get_output_embeddings().weight.mul_(scale)
    model.generation_config = transformers.GenerationConfig(
        bos_token_id=config.bos_token_id, eos_token_id=end, pad_token_id=config.pad_token_id
    )
    model.save_pretrained(folder)
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=IM_END if chat else EOS,
        pad_token=EOS,
        chat_template=CHAT_TEMPLATE if chat else None,
    ).save_pretrained(folder)
    return folder
