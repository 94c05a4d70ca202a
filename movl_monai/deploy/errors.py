"""Errors as operators may show them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from movl_monai.errors import MovlError
from movl_monai.transforms.dicom.quiet import quiet
from movl_monai.transforms.errors import MedicalImageError

__all__ = ["OperatorError", "clean_errors"]


class OperatorError(MovlError):
    """An operator failed in a way that nobody thought of."""


@contextmanager
def clean_errors(doing: str) -> Iterator[None]:
    """Let the project's own errors through, and of all others the kind only: Holoscan logs their text, which may quote.

    What pydicom and highdicom have to say about values of the files quotes them too, and is not heard.

    Args:
        doing: what is tried, for the message.

    Raises:
        OperatorError: instead of an error of another kind.

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
