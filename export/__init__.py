"""The export room: a checkpoint in, a bundle out. The only place where torch, transformers and optimum are imported."""
