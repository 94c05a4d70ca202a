"""Answer of a classifier on an image, or the reason for an abstention."""

from __future__ import annotations

__all__ = ["NO_ANSWER_OUTSIDE", "NO_ANSWER_UNSURE", "answer_of", "no_answer"]

NO_ANSWER_OUTSIDE = "No answer: unlike the training images"
NO_ANSWER_UNSURE = "No answer: not sure enough"


def no_answer(*, outside: bool | None, abstain: bool | None) -> str:
    """Return the sentence that replaces an answer, "" if the model answers.

    Args:
        outside: whether the image is out-of-distribution; None if unknown.
        abstain: whether the model abstains; None if unknown.

    Example:
        >>> no_answer(outside=True, abstain=True), no_answer(outside=None, abstain=False)
        ('No answer: unlike the training images', '')
    """
    if outside:
        return NO_ANSWER_OUTSIDE
    return NO_ANSWER_UNSURE if abstain else ""


def answer_of(predicted: str, *, outside: bool | None, abstain: bool | None) -> str:
    """Return the predicted class, or the sentence of :func:`no_answer` if the model abstains."""
    return no_answer(outside=outside, abstain=abstain) or predicted
