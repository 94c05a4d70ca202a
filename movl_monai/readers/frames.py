"""Choice of the frame, page or slice of a file; a file with several needs an explicit choice."""

from __future__ import annotations

from movl_monai.readers.errors import MedicalImageError

__all__ = ["choose_frame"]


def choose_frame(frame: int | None, count: int, name: str) -> int:
    """Return the index of the frame to read; a file with several frames needs a choice.

    Args:
        frame: requested index, or None.
        count: number of frames of the file, > 0.
        name: word for a frame in the message: "page", "slice".

    Raises:
        MedicalImageError: ``multi_frame`` for several frames and no choice, ``bad_frame`` for a frame that does not
            exist.

    Example:
        >>> choose_frame(None, 1, "slice"), choose_frame(3, 20, "slice")
        (0, 3)
    """
    if frame is None:
        if count == 1:
            return 0
        raise MedicalImageError(
            f"Expected a file with one {name}, or the choice of one, got {count} {name}s; give frame=0 to"
            f" frame={count - 1}, or make one item for each {name}.",
            reason="multi_frame",
        )
    if not 0 <= frame < count:
        raise MedicalImageError(
            f"Expected a frame from 0 to {count - 1} for a file with {count} {name}(s), got {frame}.",
            reason="bad_frame",
        )
    return int(frame)
