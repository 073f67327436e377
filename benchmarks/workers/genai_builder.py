"""genai's model builder, with the one thing put right that keeps it from Gemma 3 under transformers 5.

There a configuration holds the rotary parameters of each kind of layer, and the builder looks for those of one kind.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

import onnxruntime_genai

_FOLDER = Path(onnxruntime_genai.__file__).parent / "models"


def main() -> None:
    """Run the builder with this process's arguments."""
    sys.path.insert(0, str(_FOLDER))
    from builders import base

    original = base.Model.make_config_init

    def make_config_init(self: Any, config: Any) -> Any:
        rotary = getattr(config, "rope_parameters", None)
        if type(self).__name__ == "Gemma3Model" and isinstance(rotary, dict) and "full_attention" in rotary:
            config.rope_local_base_freq = rotary["sliding_attention"]["rope_theta"]
            config.rope_theta = rotary["full_attention"]["rope_theta"]
            config.rope_parameters = dict(rotary["full_attention"])
        return original(self, config)

    base.Model.make_config_init = make_config_init
    sys.argv[0] = str(_FOLDER / "builder.py")
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
