"""Checkpoints: from the hub, a folder or a GGUF file; configuration, tokenizer and prompt of each."""
