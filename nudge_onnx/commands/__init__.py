"""The commands of `nudge-onnx`, one file each."""
