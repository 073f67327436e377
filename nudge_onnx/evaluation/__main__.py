"""lm-eval's own command with bundles among its models: `python -m nudge_onnx.evaluation run --model nudge-onnx ...`."""

from lm_eval.__main__ import cli_evaluate

import nudge_onnx.evaluation.harness  # noqa: F401  (which registers the model)

if __name__ == "__main__":
    cli_evaluate()
