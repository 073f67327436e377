"""A GGUF file's tokenizer, rebuilt from its metadata.

transformers' own conversion is not used: it drops SmolLM2's digit splitting, gives it a BOS and another end token, and
builds Gemma 3's BPE as a Unigram model.
"""

from __future__ import annotations

from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from nudge_onnx.errors import SourceError

from .byte_level import byte_level_tokenizer
from .metadata import Metadata
from .pre_tokenizers import pre_tokenizer_named
from .sentencepiece_bpe import sentencepiece_tokenizer
from .vocabulary import Vocabulary, read_vocabulary

__all__ = ["build_tokenizer", "for_transformers"]


def build_tokenizer(metadata: Metadata) -> tuple[Tokenizer, Vocabulary]:
    """Build the tokenizer that `tokenizer.ggml.*` describes, with its BOS if the file asks for one.

    Raises `SourceError` for a kind of tokenizer, or a pre-tokenizer, that cannot be rebuilt exactly.
    """
    model = metadata.require("tokenizer.ggml.model", str)
    if model == "gpt2":
        if "tokenizer.ggml.pre" not in metadata.values:
            raise SourceError(f"{metadata.file} names no pre-tokenizer (tokenizer.ggml.pre); convert it to GGUF again")
        pre = pre_tokenizer_named(metadata.require("tokenizer.ggml.pre", str), metadata.file)
        vocabulary = read_vocabulary(metadata, add_bos=pre.add_bos)
        tokenizer = byte_level_tokenizer(vocabulary, metadata.require_list("tokenizer.ggml.merges", str), pre)
    elif model == "llama":
        vocabulary = read_vocabulary(metadata, add_bos=True)
        scores = metadata.require_list("tokenizer.ggml.scores", float)
        add_space_prefix = metadata.get("tokenizer.ggml.add_space_prefix", bool, True)
        tokenizer = sentencepiece_tokenizer(vocabulary, scores, add_space_prefix)
    else:
        raise SourceError(
            f"{metadata.file}: tokenizer kind {model!r} is not supported (gpt2, llama); use the original checkpoint"
        )
    added = vocabulary.added_tokens()
    tokenizer.add_special_tokens([token for token in added if token.special])
    tokenizer.add_tokens([token for token in added if not token.special])
    if vocabulary.add_bos:
        # add_eos_token is left aside: a prompt is there to be continued.
        bos = vocabulary.tokens[vocabulary.bos_id or 0]
        tokenizer.post_processor = TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, vocabulary.bos_id)]
        )
    return tokenizer, vocabulary


def for_transformers(tokenizer: Tokenizer, vocabulary: Vocabulary, metadata: Metadata) -> PreTrainedTokenizerFast:
    """Wrap a tokenizer for `save_pretrained`, with the special tokens and the chat template of the file."""
    end = vocabulary.tokens[vocabulary.end_ids[0]]
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=vocabulary.text(vocabulary.bos_id),
        eos_token=end,
        unk_token=vocabulary.text(vocabulary.unknown_id),
        pad_token=vocabulary.text(vocabulary.padding_id) or end,
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
        model_max_length=metadata.require(f"{metadata.architecture}.context_length", int),
    )
    wrapped.chat_template = metadata.get("tokenizer.chat_template", str, "") or None
    return wrapped
