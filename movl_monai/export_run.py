"""The command `movl-monai export`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from movl_monai.export.exporting import ExportedFile

__all__ = ["add_arguments", "run"]

_KINDS = {"given": "given images", "val": "images of val", "phantom": "rendered images of the phantom"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `movl-monai export`."""
    parser.add_argument("run_dir", metavar="RUN", help="output folder of a training, or its checkpoint")
    parser.add_argument(
        "--format",
        choices=("onnx", "torchscript", "torch-export"),
        default="onnx",
        help="onnx runs in onnxruntime, the others in torch (default: onnx)",
    )
    parser.add_argument(
        "--output", default=None, metavar="FILE", help="default: model.onnx, .ts or .pt2 beside the checkpoint"
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        default=1e-4,
        help="largest difference of a logit from the network itself; above it nothing is written (default: 1e-4)",
    )
    parser.add_argument(
        "--images",
        nargs="+",
        default=(),
        metavar="PATH",
        help="folders or files to compare on; without it images of val where they are still there, else the phantom",
    )
    parser.add_argument(
        "--int8", action="store_true", help="write an int8 twin beside it (*.int8.onnx); pays in Transformers on CPUs"
    )
    parser.add_argument(
        "--int8-max-drop",
        type=float,
        default=0.02,
        metavar="SHARE",
        help="by how much int8 may lower the accuracy, or without labels how many images may change their class "
        "(default: 0.02)",
    )
    parser.add_argument(
        "--without-trust", action="store_true", help="leave the trust record of the run's evaluation out of the file"
    )
    parser.add_argument("--bundle_dir", default=None, metavar="DIR", help="the run's bundle, where it is not found")
    parser.epilog = (
        "Every further `--id value` overrides that setting of the run, e.g. `--backbone_weights FILE` where the "
        "weights are at another place now."
    )
    parser.set_defaults(takes_overrides=True)


def run(options: argparse.Namespace) -> int:
    """Export a run and say what was written and how exact it is."""
    from movl_monai.bundle_run import parse_overrides
    from movl_monai.export.exporting import export_run

    files = export_run(
        options.run_dir,
        options.format,
        output=options.output,
        tolerance=options.tolerance,
        images=options.images,
        int8=options.int8,
        int8_max_drop=options.int8_max_drop,
        trust=not options.without_trust,
        bundle_dir=options.bundle_dir,
        overrides=parse_overrides(options.overrides),
    )
    for file in files:
        print(f"{file.path} ({file.megabytes:.1f} MB)")
        print(f"  {_described(file)}")
    return 0


def _described(file: ExportedFile) -> str:
    if file.int8 is None:
        parity = file.parity
        features = "" if parity.features is None else f", features {parity.features:.1e} of the largest"
        return (
            f"largest difference from the network: logits {parity.logits:.1e} (allowed {parity.tolerance:.0e})"
            f"{features}; {parity.images} {_KINDS[parity.kind]}, batches of "
            f"{' and '.join(map(str, parity.batch_sizes))}"
        )
    change = file.int8
    accuracy = (
        "accuracy not known without labels"
        if change["accuracy_change"] is None
        else f"accuracy {change['accuracy_before']:.4f} -> {change['accuracy_after']:.4f}"
    )
    return (
        f"int8 changes: {accuracy}, {100 * change['same_class']:.2f} % keep their class, logits by up to "
        f"{change['max_logit_difference']:.2g}, probabilities by up to {change['max_probability_difference']:.2g}; "
        f"{change['images']} {_KINDS[change['kind']]}"
    )
