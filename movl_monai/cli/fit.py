"""`movl-monai fit`: from a folder of images to an evaluated and exported model."""

from __future__ import annotations

import argparse
import logging
import sys
import time

from movl_monai.cli.options import split_words
from movl_monai.cli.output import keep_stdout, show
from movl_monai.files import jsonable
from movl_monai.fit import fit
from movl_monai.fit.summary import summarize
from movl_monai.id_values import parse_overrides

__all__ = ["run"]


def run(options: argparse.Namespace) -> int:
    """Fit, and print the summary; progress goes to stderr."""
    logger, handler = logging.getLogger("movl_monai.fit"), logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Elapsed())
    logger.addHandler(handler)
    try:
        with keep_stdout():
            found = fit(
                options.dataset_dir,
                options.output_dir,
                minutes=options.minutes,
                task=options.task,
                bundle=options.bundle,
                backbones=split_words(options.backbones),
                seed=options.seed,
                overrides=parse_overrides(options.overrides),
            )
    finally:
        logger.removeHandler(handler)
    show(options, "\n".join(summarize(found)), {"output_dir": found.folder, **jsonable(found.record)})
    return 0


class _Elapsed(logging.Formatter):
    """Lines with minutes and seconds since the start."""

    def __init__(self) -> None:
        super().__init__()
        self.begin = time.time()

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        minutes, seconds = divmod(int(record.created - self.begin), 60)
        return f"fit {minutes:3d}:{seconds:02d}  {record.getMessage()}"
