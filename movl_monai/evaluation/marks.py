"""Flags from a network's trust record for its predictions."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from movl_monai.errors import MovlError
from movl_monai.evaluation.trust_file import read_trust
from movl_monai.evaluation.trust_record import TrustRecord

__all__ = ["TrustMarks"]

_LOGGER = logging.getLogger(__name__)


class TrustMarks:
    """Find the trust record of a network, and log the flags of its predictions.

    Args:
        path: file of the record, usually ``trust.pt`` beside the checkpoint; None for no record.

    Attributes:
        record: the record, after :meth:`open`; None if there is none.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self.path = None if path is None else Path(path)
        self.record: TrustRecord | None = None

    def open(self, network: nn.Module, class_names: Sequence[str]) -> None:
        """Read the record after the checkpoint is loaded, or log the reason why there is none.

        Raises:
            TrustError: if the record is damaged, of another format version, or of another checkpoint.
            MovlError: if it is of other classes.
        """
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

    def log(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Log the number of flagged rows among the predicted images."""
        for name, message in (
            ("outside", "%d of %d images are outside what this model was trained on."),
            ("abstain", "The model abstains on %d of %d images, which are outside or of which it is unsure."),
        ):
            known = [row[name] for row in rows if row.get(name) is not None]
            if known:
                _LOGGER.info(message, sum(known), len(known))
