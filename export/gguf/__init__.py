"""GGUF files as checkpoints: weights, tokenizer and chat template from the file alone."""

from .checkpoint import PROVENANCE, READING, to_checkpoint
from .parts import parts_of, whole_name, wholes_in

__all__ = ["PROVENANCE", "READING", "parts_of", "to_checkpoint", "whole_name", "wholes_in"]
