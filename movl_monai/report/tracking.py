"""Log the figures of a report to TensorBoard and MONAI's trackers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from movl_monai.report.report_tables import report_scalars

__all__ = ["track_report"]


def track_report(
    report: Mapping[str, Any], *, engine: Any = None, tensorboard_dir: str | os.PathLike[str] | None = None
) -> dict[str, float]:
    """Log every figure of a report once.

    Args:
        report: report from :func:`~movl_monai.evaluation.build_report`.
        engine: the evaluator. Its ``state.metrics`` get the figures; MONAI's MLFlowHandler logs these at the end of the
            epoch if it was attached later (as with ``--tracking mlflow``).
        tensorboard_dir: folder of the events; None writes none.

    Returns:
        the figures by name.
    """
    scalars = report_scalars(report)
    if engine is not None:
        engine.state.metrics.update(scalars)
    if tensorboard_dir is not None:
        from torch.utils.tensorboard import SummaryWriter

        with SummaryWriter(os.fspath(tensorboard_dir)) as writer:
            for name, value in scalars.items():
                writer.add_scalar(f"evaluation/{name}", value, 0)
    return scalars
