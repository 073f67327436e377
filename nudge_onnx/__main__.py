"""`python -m nudge_onnx` is `nudge-onnx`."""

from .cli import main

main(prog_name="nudge-onnx")
