"""An HTTP server that clients of OpenAI's API speak to. Needs the extra `nudge-onnx[serve]`.

`app.application` makes the ASGI application and `run.serve` serves it; `docs/serving.md` describes the endpoints.
"""
