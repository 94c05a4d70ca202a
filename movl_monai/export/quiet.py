"""Exporters without what torch says of its own code."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["quiet_exporters"]

# TorchScript as a format, whose name its users know; and what torch's exporters call of torch itself
_ANNOUNCED = r".*(torch\.jit|LeafSpec).*is deprecated"
# torch's own loader of programs takes weights from bytes, and only reads them
_READ_ONLY = "The given buffer is not writable"


@contextmanager
def quiet_exporters() -> Iterator[None]:
    """Ignore warnings that only torch's developers can act on."""
    with warnings.catch_warnings():
        for category in (DeprecationWarning, FutureWarning):
            warnings.filterwarnings("ignore", _ANNOUNCED, category)
        warnings.filterwarnings("ignore", _READ_ONLY, UserWarning)
        yield
