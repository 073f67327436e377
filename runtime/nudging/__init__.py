"""Who writes what: the nudging loop, the modes beside it, drafts and hand-overs, what is read ahead, where it stops.

Import `NudgingLoop`, the `Participant`s it is given, and `results`, which a caller sees. ONNX Runtime is unknown here.
"""
