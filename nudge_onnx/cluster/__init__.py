"""Many machines, by Ray: a deployment for Ray Serve, and batches by Ray Data. Needs the extra `nudge-onnx[ray]`.

`docs/scaling.md` shows both.
"""
