"""Write predictions with how far to trust each of them."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
from ignite import distributed as idist
from ignite.engine import Engine, Events
from torch import nn

from movl_monai.evaluation.columns import column
from movl_monai.evaluation.feature_tap import FeatureTap
from movl_monai.evaluation.handler import PredictionWriter
from movl_monai.evaluation.marks import TrustMarks

__all__ = ["MarkedPredictionWriter"]


class MarkedPredictionWriter(PredictionWriter):
    """Write predictions.csv with the marks of a trust record, if there is one beside the checkpoint.

    The columns of :class:`PredictionWriter` stay as they are, probabilities of raw logits among them; those of
    :func:`~movl_monai.evaluation.marks.trust_columns` follow. The network runs once: the record's OOD score reads the
    features that its head read. Put it behind the handler that loads the checkpoint.

    Args:
        output_dir: folder of the file.
        class_names: names in the order of the logits.
        network: whose record it must be, possibly inside DistributedDataParallel.
        trust: file of the record; None marks nothing. The log says why predictions are not marked.
        filename: name of the file.

    Raises:
        TrustError: at the start, if the record is damaged, of another format version, or of another checkpoint.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        *,
        class_names: Sequence[str],
        network: nn.Module,
        trust: str | os.PathLike[str] | None = None,
        filename: str = "predictions.csv",
    ) -> None:
        super().__init__(output_dir, class_names=class_names, filename=filename)
        self.network = network
        self.marks = TrustMarks(trust)
        self.tap = FeatureTap(network)

    def attach(self, engine: Engine) -> None:
        """Collect in every iteration and finish after the run."""
        engine.add_event_handler(Events.STARTED, lambda: self._open())
        super().attach(engine)

    def _open(self) -> None:
        self.tap.close()
        self.marks.open(self.network, self.class_names)
        if self.marks.record is not None:
            self.tap.open()

    def _features(self, engine: Engine) -> torch.Tensor | None:
        if self.marks.record is None:
            return None
        return self.tap.take(len(column(engine.state.batch, "id") or ()))

    def finish(self, engine: Engine | None = None) -> None:
        """Gather from all processes; the first one writes."""
        self.tap.close()
        predictions, features = self.collector.gather_with_features()
        if idist.get_rank() == 0:
            self.write(predictions, columns=self.marks.columns(predictions.logits, features))
