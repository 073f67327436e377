"""What a graph computes, and how near that is to PyTorch. Import `Calibration` and `verify`."""
