"""Measurements of nudge-onnx beside its peers; `python -m benchmarks` lists them. See README.md here."""
