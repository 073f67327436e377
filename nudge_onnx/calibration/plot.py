"""The picture of a calibration. Needs the extra `nudge-onnx[plot]`."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from nudge_onnx.errors import RuntimeMissingError
from nudge_onnx.files import write_whole

from .reliability import Reliability
from .sweep import Setting

__all__ = ["draw"]


def draw(path: Path, settings: Sequence[Setting], found: Reliability, chosen: Setting | None) -> None:
    """Nudging ratio, speed and agreement by gamma, and the reliability diagram, as one PNG.

    Raises `RuntimeMissingError` without matplotlib, and `NudgeError` if the file cannot be written.
    """
    try:
        import matplotlib
    except ImportError:
        raise RuntimeMissingError(
            "a picture needs matplotlib, which is not installed; pip install 'nudge-onnx[plot]'"
        ) from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    agreement = any(one.agreement is not None for one in settings)
    figure, axes = pyplot.subplots(1, 3 + agreement, figsize=(4.2 * (3 + agreement), 3.6), layout="constrained")
    panels = [("nudging_ratio", "share of nudging tokens"), ("tokens_per_second", "tokens per second")]
    if agreement:
        panels.append(("agreement", "agreement with references"))
    for axis, (name, title) in zip(axes, panels, strict=False):
        for gate in dict.fromkeys(one.gate for one in settings):
            points = sorted((one.gamma, getattr(one, name)) for one in settings if one.gate == gate)
            axis.plot(*zip(*points, strict=True), marker="o", label=gate)
        if chosen is not None:
            axis.axvline(chosen.gamma, linestyle=":", color="grey")
        axis.set_xlabel("gamma")
        axis.set_title(title, fontsize=10)
        axis.set_ylim(bottom=0)
    axes[0].legend()
    last = axes[-1]
    last.plot([0, 1], [0, 1], color="grey", linewidth=1)
    width = 1 / len(found.counts)
    last.bar([(place + 0.5) * width for place in range(len(found.counts))], found.accuracy, width * 0.9, alpha=0.7)
    last.set_xlabel("top-1 probability of the base model")
    last.set_title(f"share that was right (calibration error {found.error:.3f})", fontsize=10)
    drawn = BytesIO()
    figure.savefig(drawn, dpi=120, format="png")
    pyplot.close(figure)
    write_whole(path, drawn.getvalue())
