"""TorchScript without torch's announcement, at every call, that another format will replace it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["quiet_torchscript"]


@contextmanager
def quiet_torchscript() -> Iterator[None]:
    """Ignore the warnings with which torch deprecates TorchScript; who asks for that format knows it by its name."""
    with warnings.catch_warnings():
        for category in (DeprecationWarning, FutureWarning):
            warnings.filterwarnings("ignore", r".*torch\.jit.*is deprecated", category)
        yield
