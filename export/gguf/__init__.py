"""GGUF files as checkpoints: weights, tokenizer and chat template from the file alone."""

from .checkpoint import GGUF_FILE, PROVENANCE, READING, open_gguf, to_checkpoint
from .parts import parts_of, whole_name, wholes_in

__all__ = ["GGUF_FILE", "PROVENANCE", "READING", "open_gguf", "parts_of", "to_checkpoint", "whole_name", "wholes_in"]
