"""The base of the errors that a user can act on.

The `movl-monai` command prints them as one paragraph without a traceback.
"""

from __future__ import annotations

__all__ = [
    "CheckpointMismatchError",
    "ConfigError",
    "DataError",
    "ExportError",
    "LeakageError",
    "MovlError",
    "NonFiniteLossError",
    "UntrustedConfigError",
    "WeightsError",
]


class MovlError(ValueError):
    """Something the user gave cannot be used; the message says what was expected, what came, and what to do.

    Attributes:
        exit_code: with which the command ends.
    """

    exit_code = 2


class ConfigError(MovlError):
    """A setting of a bundle or command is unknown or impossible."""


class UntrustedConfigError(ConfigError):
    """A config asks for code outside of the allow-list, and nobody said that it is trusted."""


class DataError(MovlError):
    """A data set cannot be used as it is: empty, one class, unreadable, patients not known."""


class LeakageError(DataError):
    """Images or patients that a network learned from would be scored as test; the command ends with exit code 3."""

    exit_code = 3


class WeightsError(MovlError):
    """Pretrained weights are missing, damaged, or not those of the backbone."""


class CheckpointMismatchError(MovlError):
    """A checkpoint was trained on other frozen weights, or for other classes, than the network it is loaded into."""


class ExportError(MovlError):
    """An exported model cannot be read or used, or would compute something else than the network it is made from."""


class NonFiniteLossError(MovlError):
    """The loss became NaN or infinite; training stops at that step instead of skipping it."""
