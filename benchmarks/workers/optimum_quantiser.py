"""Optimum's own way to int8: dynamic quantisation, a scale per column. SOURCE FOLDER and OUTPUT FOLDER."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path


def main() -> None:
    """Quantise, and copy the configuration that the model is opened with."""
    from optimum.onnxruntime import ORTQuantizer
    from optimum.onnxruntime.configuration import AutoQuantizationConfig

    source, output = map(Path, sys.argv[1:])
    settings = AutoQuantizationConfig.avx512_vnni(is_static=False, per_channel=True)
    ORTQuantizer.from_pretrained(source, file_name="model.onnx").quantize(save_dir=output, quantization_config=settings)
    for name in ("config.json", "generation_config.json"):
        if (source / name).is_file():
            shutil.copy(source / name, output)


if __name__ == "__main__":
    main()
