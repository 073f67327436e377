"""Tasks of the paper for lm-eval, and how their answers are scored."""
