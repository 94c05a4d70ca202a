"""The command `movl-monai phantom`."""

from __future__ import annotations

import argparse

from movl_monai.cli.output import say_next, show
from movl_monai.errors import ConfigError, MovlError
from movl_monai.phantom.dataset import KindName, write_phantom

__all__ = ["run"]

_SETTINGS: dict[KindName, tuple[str, ...]] = {
    "lesion": (),
    "findings": ("--task", "multilabel"),
    "findings_label": ("--task", "multilabel"),
    "grades": ("--task", "ordinal"),
    "measure": ("--task", "regression"),
    "volumes": ("--unit", "series"),
}


def run(options: argparse.Namespace) -> int:
    """Write the data set and print a summary.

    Returns:
        0.

    Raises:
        ConfigError: if a number is out of range.
        DataError: if the folder holds something else.
    """
    try:
        summary = write_phantom(
            options.folder,
            kind=options.kind,
            seed=options.seed,
            patients=None if options.patients is None else tuple(options.patients),
            images_per_patient=options.images_per_patient,
            size=options.size,
            overwrite=options.overwrite,
        )
    except MovlError:
        raise
    except OSError as error:
        raise ConfigError(
            f"The folder cannot be written ({error.strerror}): {options.folder}. Name one that exists or can be made."
        ) from error
    except ValueError as error:
        raise ConfigError(str(error)) from error
    state = "is there already, nothing to do" if summary.kept else "written"
    lines = [f"Phantom data set of {summary.images} DICOM files: {state}."]
    lines += [f"  {name}: {count}" for name, count in summary.counts.items()]
    show(options, "\n".join(lines), vars(summary))
    say_next("train", "movl_classification", str(summary.folder), "--output_dir", "OUT", *_SETTINGS[options.kind])
    return 0
