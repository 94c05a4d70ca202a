"""Distinction between faults of one file, which affect only that file, and faults that end a run."""

from __future__ import annotations

import errno

from movl_monai.data.decode import explain
from movl_monai.errors import MovlError

__all__ = ["ends_run", "fault_of"]

# the disk or the table of open files is full, or the disk is not writable or readable at all
_OF_MACHINE = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM))


def ends_run(error: BaseException) -> bool:
    """Return True for an error of the machine, the device, the model or the user, and not of one file.

    Example:
        >>> ends_run(KeyError("x")), ends_run(MemoryError()), ends_run(OSError(errno.ENOSPC, "full"))
        (False, True, True)
    """
    cause: BaseException | None = error
    while cause is not None:
        if not isinstance(cause, Exception) or isinstance(cause, (MemoryError, MovlError)):
            return True
        if isinstance(cause, OSError) and cause.errno in _OF_MACHINE:
            return True
        # the device cannot compute afterwards
        if isinstance(cause, RuntimeError) and "CUDA error" in str(cause):
            return True
        cause = cause.__cause__
    return False


def fault_of(error: Exception) -> tuple[str, str]:
    """Return the reason code and detail of an error in listing, reading, predicting or writing one file.

    Args:
        error: the caught error.

    Returns:
        As :func:`movl_monai.data.decode.explain`; for an error outside of reading, ``unexpected_error`` and the name of
        its class, as its message may quote the file.

    Raises:
        Exception: the error itself, if it ends the run.

    Example:
        >>> fault_of(IndexError("DOE^JANE"))
        ('unexpected_error', 'IndexError')
    """
    if ends_run(error):
        raise error
    return explain(error)
