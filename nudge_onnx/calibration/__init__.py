"""Choosing gamma by measuring: a sweep on one's own prompts, and how well the base model knows what it knows."""
