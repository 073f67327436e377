"""`python -m nudge_onnx` is `nudge-onnx`."""

from nudge_onnx.cli import main

main(prog_name="nudge-onnx")
