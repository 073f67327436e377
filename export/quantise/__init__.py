"""Weights in eight or four bits: blocks, offsets, GPTQ, and which matrices to spare."""
