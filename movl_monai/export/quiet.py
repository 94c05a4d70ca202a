"""Exporters without torch's announcements of what it will replace in its own code."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["quiet_exporters"]

# TorchScript as a format, whose name its users know; and what torch's exporters call of torch itself
_ANNOUNCED = r".*(torch\.jit|LeafSpec).*is deprecated"


@contextmanager
def quiet_exporters() -> Iterator[None]:
    """Ignore warnings that only torch's developers can act on."""
    with warnings.catch_warnings():
        for category in (DeprecationWarning, FutureWarning):
            warnings.filterwarnings("ignore", _ANNOUNCED, category)
        yield
