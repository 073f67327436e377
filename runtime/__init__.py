"""The runtime room: a bundle in, text out. Needs numpy, onnxruntime, tokenizers and jinja2, and nothing else."""
