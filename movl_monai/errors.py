"""Base of the errors that a user can act on.

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
    """Error in the user's input; the message states the expectation, the finding and the remedy.

    Attributes:
        exit_code: exit code of the command.
    """

    exit_code = 2


class ConfigError(MovlError):
    """Unknown or impossible setting of a bundle or command."""


class UntrustedConfigError(ConfigError):
    """Config with code outside of the allow-list that was not declared trusted."""


class DataError(MovlError):
    """Unusable data set: empty, one class, unreadable, unknown patients."""


class LeakageError(DataError):
    """Images or patients that a network learned from would be scored as test; the command ends with exit code 3."""

    exit_code = 3


class WeightsError(MovlError):
    """Pretrained weights that are missing, damaged, or not the backbone's."""


class CheckpointMismatchError(MovlError):
    """Checkpoint of other frozen weights, or other classes, than those of the network."""


class ExportError(MovlError):
    """Exported model that is unreadable or unusable, or that would differ from its network."""


class NonFiniteLossError(MovlError):
    """NaN or infinite loss; training stops at that step instead of skipping it."""
