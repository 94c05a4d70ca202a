"""Errors without patient data, as operators may show them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from movl_monai.errors import MovlError
from movl_monai.readers.dicom.quiet import quiet
from movl_monai.readers.errors import MedicalImageError

__all__ = ["OperatorError", "clean_errors"]


class OperatorError(MovlError):
    """An operator failed in an unexpected way."""


@contextmanager
def clean_errors(doing: str) -> Iterator[None]:
    """Reduce unexpected errors to their type: Holoscan logs error texts, which may quote patient data.

    The project's own errors pass unchanged. Warnings of pydicom and highdicom quote values of the files too, and are
    muted.

    Args:
        doing: the attempted action, for the message.

    Raises:
        OperatorError: in place of any error of another kind.

    Example:
        >>> with clean_errors("read the study"):
        ...     {}["DOE^JANE"]
        Traceback (most recent call last):
        movl_monai.deploy.errors.OperatorError: Could not read the study: KeyError.
    """
    try:
        with quiet():
            yield
    except (MovlError, MedicalImageError):
        raise
    except OSError as error:
        raise OperatorError(f"Could not {doing}: {error.strerror or type(error).__name__}.") from None
    except Exception as error:
        raise OperatorError(f"Could not {doing}: {type(error).__name__}.") from None
