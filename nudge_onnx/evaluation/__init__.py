"""Evaluation on lm-eval, and a judge for open answers. Needs the extra `nudge-onnx[eval]`."""
