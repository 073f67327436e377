"""The errors a user can meet. Each message is one line: what is wrong, then what to do."""

__all__ = [
    "BundleError",
    "ContextLengthError",
    "ExportError",
    "LogitsError",
    "NudgeError",
    "ProviderError",
    "RuntimeMissingError",
    "SourceError",
]


class NudgeError(Exception):
    """Root of every error that this package raises on purpose."""


class BundleError(NudgeError):
    """A folder is no bundle, or one that is damaged, unsafe, or of a newer format."""


class ProviderError(NudgeError):
    """An execution provider was asked for that this machine or this build does not have, or it failed in a pass."""


class RuntimeMissingError(NudgeError):
    """No onnxruntime build is installed."""


class ContextLengthError(NudgeError):
    """A prompt leaves no room for an answer in a model's context."""


class LogitsError(NudgeError):
    """A model returned NaN, or no finite logit, for a position."""


class SourceError(NudgeError):
    """A checkpoint cannot be found, read, or used."""


class ExportError(NudgeError):
    """A checkpoint was read and could not be turned into a verified bundle."""
