"""Check that a reader refuses its input."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from movl_monai.readers import MedicalImageError

__all__ = ["refused"]


@contextmanager
def refused(reason: str, match: str) -> Iterator[pytest.ExceptionInfo[MedicalImageError]]:
    """Fail unless a MedicalImageError of that reason is raised, with a message that matches."""
    with pytest.raises(MedicalImageError, match=match) as caught:
        yield caught
    assert caught.value.reason == reason
