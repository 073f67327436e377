"""GGUF files as checkpoints: weights through transformers, tokenizer and chat template from the file's own metadata."""

from .checkpoint import PROVENANCE, to_checkpoint

__all__ = ["PROVENANCE", "to_checkpoint"]
