"""What a trust record says about predicted images, as columns of their file."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import nn

from movl_monai.errors import MovlError

if TYPE_CHECKING:  # it imports from this package
    from movl_monai.trust.record import Trusted, TrustRecord

__all__ = ["TrustMarks", "append_columns", "trust_columns"]

_LOGGER = logging.getLogger(__name__)
_UNKNOWN = "not known"


class TrustMarks:
    """Find the trust record of a network, and mark its predictions.

    Args:
        path: file of the record, usually ``trust.pt`` beside the checkpoint; None marks nothing.

    Attributes:
        record: after :meth:`open`; None where nothing is marked.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self.path = None if path is None else Path(path)
        self.record: TrustRecord | None = None

    def open(self, network: nn.Module, class_names: Sequence[str]) -> None:
        """Read the record, once the checkpoint is loaded, or log why there is none.

        Raises:
            TrustError: if there is one that is damaged, of another format version, or of another checkpoint.
            MovlError: if it is of other classes.
        """
        from movl_monai.trust.record_file import read_trust

        self.record = None
        if self.path is None:
            _LOGGER.info("Predictions are not marked: `trust` is null.")
        elif not self.path.is_file():
            _LOGGER.info(
                "Predictions are not marked: there is no %s beside the checkpoint; an evaluation writes it.",
                self.path.name,
            )
        else:
            record = read_trust(self.path, network)
            if list(record.class_names) != list(class_names):
                raise MovlError(
                    f"The trust record is of the classes {list(record.class_names)}, predictions of "
                    f"{list(class_names)}; expected the same in the same order."
                )
            self.record = record
            if record.gaps:
                _LOGGER.info("The trust record does not know: %s.", ", ".join(record.gaps))

    def columns(self, logits: np.ndarray, features: np.ndarray) -> dict[str, list[str]]:
        """Columns of :func:`trust_columns`, none without a record; logs how many images are marked."""
        if self.record is None:
            return {}
        trusted = self.record.apply(logits, features if features.shape[1] else None)
        for marked, message in (
            (trusted.outside, "%d of %d images are outside what this model was trained on."),
            (trusted.abstain, "The model abstains on %d of %d images, which are outside or of which it is unsure."),
        ):
            if marked is not None:
                _LOGGER.info(message, marked.sum(), len(marked))
        return trust_columns(trusted, self.record.class_names, count=len(logits))


def trust_columns(trusted: Trusted, class_names: Sequence[str], *, count: int) -> dict[str, list[str]]:
    """Columns of text, one value for each of ``count`` images.

    ``calibrated_<class>``; ``ood_score``; ``outside``: a sentence, or nothing for an image like those of training;
    ``conformal_set``: a JSON list of class names; ``abstain``: "yes" or "no". What is not known is empty in the columns
    of numbers and sets, and "not known" in the others.
    """
    from movl_monai.trust.record import OUTSIDE

    empty = [""] * count
    columns = {f"calibrated_{name}": empty for name in class_names}
    if trusted.probabilities is not None:
        rows = trusted.probabilities.T
        columns = {f"calibrated_{name}": _numbers(row) for name, row in zip(class_names, rows, strict=True)}
    columns["ood_score"] = empty if trusted.ood_scores is None else _numbers(trusted.ood_scores)
    columns["outside"] = _words(trusted.outside, yes=OUTSIDE, no="", count=count)
    columns["conformal_set"] = empty if trusted.sets is None else [_names(row, class_names) for row in trusted.sets]
    columns["abstain"] = _words(trusted.abstain, yes="yes", no="no", count=count)
    return columns


def append_columns(text: str, columns: Mapping[str, Sequence[str]]) -> str:
    """Put columns behind those of a CSV text with a header.

    Example:
        >>> append_columns("id\\n0a\\n", {"abstain": ["no"]})
        'id,abstain\\n0a,no\\n'
    """
    if not columns:
        return text
    header, *rows = csv.reader(io.StringIO(text, newline=""))
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*header, *columns])
    writer.writerows([*row, *added] for row, *added in zip(rows, *columns.values(), strict=True))
    return stream.getvalue()


def _numbers(values: np.ndarray) -> list[str]:
    return [repr(float(value)) for value in values]


def _words(marked: np.ndarray | None, *, yes: str, no: str, count: int) -> list[str]:
    return [_UNKNOWN] * count if marked is None else [yes if value else no for value in marked]


def _names(row: np.ndarray, class_names: Sequence[str]) -> str:
    chosen = [name for name, belongs in zip(class_names, row, strict=True) if belongs]
    return json.dumps(chosen, ensure_ascii=False)
