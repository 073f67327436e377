"""GGUF files as checkpoints: weights through transformers, tokenizer and chat template from the file's own metadata."""
