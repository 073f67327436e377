"""Answers from a bundle, without PyTorch: ONNX Runtime runs the models, NumPy the rest.

The face is here: `lm` (a bundle loaded), `stream` (an answer on its way), `options`, `answering` and `loading`.
Packages lie below it, and each imports only from those further down: `nudging`, `choosing`, `inference`, `sessions`,
`text`, `system`. `docs/architecture.md` shows the way of a token through them.
"""
