"""Text and ids: tokenizers, chat templates, prompts, and the blocks in which a prompt is read.

Import `Tokenizer`, `PromptIds` and `prompt_ids`. Nothing here runs a model.
"""
