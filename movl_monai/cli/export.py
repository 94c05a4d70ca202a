"""Command `movl-monai export`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from movl_monai.cli.output import say_next, show
from movl_monai.export.change import doubt
from movl_monai.export.exporting import ExportedFile, export_run
from movl_monai.files import jsonable
from movl_monai.id_values import parse_overrides

__all__ = ["run"]

_KINDS = {"given": "given images", "val": "images of val", "phantom": "rendered images of the phantom"}


def run(options: argparse.Namespace) -> int:
    """Export a run, and print the written files and their accuracy."""
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
        trust_code=options.trust,
        overrides=parse_overrides(options.overrides),
    )
    lines = [f"{file.path} ({file.megabytes:.1f} MB)\n  {_described(file)}" for file in files]
    show(options, "\n".join(lines), {"files": [_facts(file) for file in files]})
    say_next("predict", str(files[0].path), "INPUT", "--output_dir", "OUT")
    return 0


def _facts(file: ExportedFile) -> dict[str, Any]:
    return {"path": file.path, "megabytes": file.megabytes, **jsonable({"parity": file.parity, "int8": file.int8})}


def _described(file: ExportedFile) -> str:
    if file.int8 is None:
        parity = file.parity
        probabilities = "" if parity.probabilities is None else f", probabilities {parity.probabilities:.1e}"
        features = "" if parity.features is None else f", features {parity.features:.1e} of the largest"
        return (
            f"largest difference from the network: logits {parity.logits:.1e} (allowed {parity.tolerance:.0e})"
            f"{probabilities}{features}; {parity.images} {_KINDS[parity.kind]}, batches of "
            f"{' and '.join(map(str, parity.batch_sizes))}"
        )
    change = file.int8
    seen = f"{change['images']} {_KINDS[change['kind']]}"
    if change["available"] is not None and change["available"] > change["images"]:
        seen += f" (of {change['available']}{_unreadable(change)})"
    parts = [
        f"int8 changes on {seen}: {_accuracy(change['labeled'])}",
        f"{100 * change['same_class']:.2f} % keep their class, logits differ by up to "
        f"{change['max_logit_difference']:.2g}, probabilities by up to {change['max_probability_difference']:.2g}",
        *_marks(change["marks"] or {}),
    ]
    if uncertain := doubt(change):
        parts.append(f"{uncertain}; more images would tell")
    return "\n  ".join(parts)


def _accuracy(labeled: Mapping[str, Any] | None) -> str:
    if labeled is None:
        return "accuracy not known without labels of images"
    name = "balanced_accuracy" if labeled["balanced_accuracy"] is not None else "accuracy"
    figure = labeled[name]
    change, share = f"{figure['change']:+.4f}", f"{100 * labeled['level']:.0f} %"
    if figure["interval"] is not None:
        low, high = figure["interval"]
        change += f", {share} interval {low:+.4f} to {high:+.4f} over {labeled['resampled']}"
    return (
        f"{name.replace('_', ' ')} {figure['before']:.4f} -> {figure['after']:.4f} ({change}); right before and wrong "
        f"after: {labeled['only_before_right']}, the other way: {labeled['only_after_right']}"
    )


def _marks(marks: Mapping[str, Any]) -> list[str]:
    known = [
        f"{name} {100 * mark['before']:.1f} % -> {100 * mark['after']:.1f} % of images ({100 * mark['changed']:.1f} % "
        "change it)"
        for name, mark in marks.items()
        if mark is not None
    ]
    return [f"by the trust record, which stays that of the float file: {', '.join(known)}"] if known else []


def _unreadable(change: Mapping[str, Any]) -> str:
    return f", {change['unreadable']} could not be read" if change["unreadable"] else ""
