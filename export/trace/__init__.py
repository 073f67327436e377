"""PyTorch models: traced to ONNX by Optimum, and run as the reference."""
