"""The command `movl-monai phantom`."""

from __future__ import annotations

import argparse

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    parser.add_argument("folder", help="where to write: new, empty, or of an earlier call")
    parser.add_argument("--seed", type=int, default=0, help="of everything (default: 0)")
    parser.add_argument(
        "--patients",
        type=int,
        nargs=4,
        default=(60, 20, 30, 30),
        metavar=("TRAIN", "VAL", "TEST", "SCANNER_B"),
        help="numbers of patients (default: 60 20 30 30)",
    )
    parser.add_argument("--images-per-patient", type=int, default=4, help="(default: 4)")
    parser.add_argument("--size", type=int, default=256, help="rows and columns of scanner A (default: 256)")
    parser.add_argument("--overwrite", action="store_true", help="replace a complete phantom of other settings")


def run(options: argparse.Namespace) -> int:
    """Write the data set and print a summary.

    Returns:
        0.

    Raises:
        ConfigError: if a number is out of range.
        DataError: if the folder holds something else.
    """
    from movl_monai.errors import ConfigError, MovlError
    from movl_monai.phantom.dataset import write_phantom

    try:
        summary = write_phantom(
            options.folder,
            seed=options.seed,
            patients=tuple(options.patients),
            images_per_patient=options.images_per_patient,
            size=options.size,
            overwrite=options.overwrite,
        )
    except MovlError:
        raise
    except ValueError as error:
        raise ConfigError(str(error)) from error
    state = "is there already, nothing to do" if summary.kept else "written"
    print(f"Phantom data set of {summary.images} DICOM files: {state}.")
    for name, count in summary.counts.items():
        print(f"  {name}: {count}")
    print(f"Next: use {summary.folder / 'manifest.csv'} as the data set.")
    return 0
