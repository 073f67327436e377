"""ONNX Runtime: execution providers and their options, sessions, graphs kept on disk, recorded runs.

Import `open_session`, `ModelSession` and what `providers` exports. No other package imports onnxruntime by itself.
"""
