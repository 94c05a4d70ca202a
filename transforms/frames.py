"""Which frame, page or slice of a file is read: never one that nobody chose out of several."""

from __future__ import annotations

from movl_monai.transforms.errors import MedicalImageError

__all__ = ["choose_frame"]


def choose_frame(frame: int | None, count: int, name: str) -> int:
    """Return the index of the frame to read; one frame needs no choice, several do.

    Args:
        frame: index that was asked for, or None.
        count: number of frames of the file, > 0.
        name: what the frames are called in the message: "page", "slice".

    Raises:
        MedicalImageError: ``multi_frame`` if none was chosen out of several, ``bad_frame`` if it does not exist.

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
