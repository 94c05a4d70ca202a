"""`movl-monai predict`: from DICOM, NIfTI and pictures to tables, DICOM objects and masks."""

from __future__ import annotations

import argparse

from movl_monai import heap
from movl_monai.cli.early import check_batch_size, read_codes
from movl_monai.cli.options import split_words
from movl_monai.cli.output import show
from movl_monai.errors import EXIT_SOME_FAILED
from movl_monai.id_values import parse_overrides
from movl_monai.predict.run import predict

__all__ = ["EXIT_SOME_FAILED", "run"]


def run(options: argparse.Namespace) -> int:
    """Predict, print a summary, and return an exit code that shows failed files."""
    heap.keep_free_memory()
    summary = predict(
        options.model,
        options.input,
        out=options.output_dir,
        outputs=split_words(options.outputs),
        batch_size=check_batch_size(options.batch_size),
        num_workers=options.num_workers,
        device=options.device,
        modalities=split_words(options.modalities),
        series=options.series,
        overrides=parse_overrides(options.overrides),
        bundle_dir=options.bundle_dir,
        trust=options.trust,
        codes=read_codes(options.codes),
        paths=options.paths,
        split=options.split,
    )
    if summary is None:  # not the first process
        return 0
    counts = {name: value for name, value in vars(summary).items() if name not in ("rows", "out", "remarks")}
    show(options, summary.text(), {"output_dir": summary.out, **counts})
    return EXIT_SOME_FAILED if summary.failed or summary.not_written else 0
