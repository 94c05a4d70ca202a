"""Mute messages of torch's exporters that concern their own code."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["quiet_exporters"]

# deprecation of TorchScript, which users chose by name, and of functions that torch's exporters call themselves
_ANNOUNCED = r".*(torch\.jit|LeafSpec).*is deprecated"
# torch's loader of programs takes weights from a read-only buffer and never writes to it
_READ_ONLY = "The given buffer is not writable"
# they log every folded constant, once an evaluation in the same process has set the level to INFO
_TALKING = ("onnx_ir", "onnxscript")


@contextmanager
def quiet_exporters() -> Iterator[None]:
    """Ignore warnings and log lines that only the exporters' developers can act on."""
    loggers = [logging.getLogger(name) for name in _TALKING]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(max(logger.level, logging.WARNING))
    try:
        yield from _without_warnings()
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _without_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        for category in (DeprecationWarning, FutureWarning):
            warnings.filterwarnings("ignore", _ANNOUNCED, category)
        warnings.filterwarnings("ignore", _READ_ONLY, UserWarning)
        yield
