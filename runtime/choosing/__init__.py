"""One position: is the model certain (`gates`), which token does it write (`sampling`), both together (`choosers`).

Import gates and `Sampling`; the choosers are what a `RememberedRows` is started with.
"""
