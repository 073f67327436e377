"""Two checkpoints become one bundle: traced, rewritten, quantised, measured against PyTorch, written.

`cli`, `pipeline` and `plan` are the face. Packages lie below them, and each imports only from those further down:
`bundle`, `quantise` and `measure`, `trace`, `passes`, `source`, `gguf`, `weights`, `support`.
"""
