"""`movl-monai robustness`: several runs on the same corrupted test images, in one table."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch

from movl_monai.cli.options import shown_overrides, split_numbers, split_words
from movl_monai.cli.output import show
from movl_monai.data import Datalist, IdMap, ImageDataset
from movl_monai.data.keep import leakage_error, learned_items, told_by_file
from movl_monai.data.kept_splits import KeptSplits
from movl_monai.data.recognise import pixel_leaks
from movl_monai.errors import DataError
from movl_monai.experiments.robustness import Member, Suite, build_result, cells_of, robustness_summary, write_result
from movl_monai.experiments.robustness.images import (
    DATA_SETTINGS,
    check_unseen,
    choose_corruptions,
    images_csv,
    read_test_images,
)
from movl_monai.experiments.robustness.runs import (
    NamedRun,
    data_settings,
    kept_splits_of,
    open_runs,
    run_facts,
    splits_file_of,
)
from movl_monai.files import write_atomically
from movl_monai.id_values import parse_overrides
from movl_monai.report.tasks import task_named

__all__ = ["run"]


def run(options: argparse.Namespace) -> int:
    """Run the suite, print the summary, and write robustness.html, .md, .csv, .png and .json."""
    names = choose_corruptions(split_words(options.corruptions) if options.corruptions is not None else None)
    cells = cells_of(names, split_numbers(options.severities, option="--severities", example="1,3,5"))
    folder = Path(options.output_dir)
    runs, baseline = open_runs(
        options.runs,
        baseline=options.baseline,
        bundle_dir=options.bundle_dir,
        backbone_weights=options.backbone_weights,
        trust=options.trust,
    )
    class_names = list(runs[0].run.class_names)
    id_map = IdMap(folder / "local" / "id_map.json")
    datalist, notes = _images(options, runs, class_names, id_map)
    device = options.device or _device()
    members, items = _members(runs, datalist, device=device, num_workers=options.num_workers, folder=folder)
    suite = Suite(members, folder=folder / "logits", seed=options.corruption_seed, device=device)
    write_atomically(folder / "images.csv", images_csv(items, class_names, id_map).encode())
    logits = suite.run(cells)
    result = build_result(
        logits,
        np.array([item["label"] for item in items]),
        class_names=class_names,
        baseline=baseline,
        patients=[item["patient_id"] for item in items],
        seed=options.corruption_seed,
        facts={member.name: member.facts for member in members},
        notes=notes,
        shown=task_named(runs[0].run.task).figures,
        rounds=options.rounds,
    )
    write_result(folder, result, command=_command(options, baseline))
    page = folder / "robustness.html"
    files = f"Page: {page}; table: robustness.md, robustness.csv, robustness.png, robustness.json"
    text = f"{robustness_summary(result)}\n{files}"
    show(options, text, {"page": page, "table": folder / "robustness.md", **result})
    return 0


def _images(
    options: argparse.Namespace, runs: list[NamedRun], class_names: list[str], id_map: Any
) -> tuple[Datalist, list[str]]:
    """Return the chosen test images, and notes on runs that may have seen them."""
    settings = {**data_settings(runs, DATA_SETTINGS), **parse_overrides(options.overrides)}
    source, count = options.dataset_dir, options.images
    kept = {named.name: splits for named in runs if (splits := kept_splits_of(named)) is not None}
    first = next((splits_file_of(named) for named in runs if named.name in kept), None)
    images = read_test_images(
        source, class_names=class_names, id_map=id_map, count=count, settings=settings, kept_splits=first
    )
    items = list(images.datalist)
    _check_files(items, kept, options)
    others = [named for named in runs if named.name not in kept]
    unchecked = [named.name for named in others if not check_unseen(items, named.run.folder, name=named.name)]
    if not unchecked:
        return images.datalist, []
    what = (
        f"that {', '.join(unchecked)} has not seen the test images: the folder of the run has no ingest_report.csv "
        "with local/id_map.json"
    )
    if images.made:
        raise DataError(
            f"The data set gives no test split, so that it was made again, and it cannot be checked {what}. Fill the "
            "column `split` of the manifest."
        )
    return images.datalist, [f"It could not be checked {what}. They are those that the data set marks as test."]


def _members(
    runs: list[NamedRun], datalist: Datalist, *, device: str, num_workers: int, folder: Path
) -> tuple[list[Member], list[dict[str, Any]]]:
    """Return the networks with their images, decoded once per preprocessing, and the images' items."""
    decoded: dict[str, ImageDataset] = {}
    members = []
    for named in runs:
        key = named.preprocessing_key()
        if key not in decoded:
            report = folder / f"ingest_report{'' if not decoded else f'_{len(decoded)}'}.csv"
            transform = named.run.preprocessing()
            decoded[key] = ImageDataset(datalist, transform, num_workers=num_workers, report=report)
        network = named.run.network(device)
        facts = {**run_facts(named, network), "digest": named.digest()}
        images = decoded[key].images
        _check_pixels(named, decoded[key], folder)
        members.append(Member(name=named.name, digest=facts["digest"], network=network, images=images, facts=facts))
    items = [[item["id"] for item in dataset.data] for dataset in decoded.values()]
    if any(ids != items[0] for ids in items):
        raise DataError(
            "The runs preprocess images in different ways, and not all images can be read by all of them; see the "
            "ingest reports in output_dir, and remove the unreadable images or compare the runs apart."
        )
    return members, next(iter(decoded.values())).data


def _check_files(items: list[dict[str, Any]], kept: dict[str, KeptSplits], options: argparse.Namespace) -> None:
    """Refuse test images whose files, or patients, a run learned from."""
    overlap = parse_overrides(options.overrides).get("allow_patient_overlap", False)
    for name, splits in kept.items():
        leaks = learned_items(splits, told_by_file(splits, items))
        leaks = [leak for leak in leaks if leak.found != "patient" or not overlap]
        if leaks:
            raise leakage_error(leaks, Path(options.output_dir) / "local", run=name)


def _check_pixels(named: NamedRun, dataset: ImageDataset, folder: Path) -> None:
    """Refuse test images that are copies of images that a run learned from."""
    splits = kept_splits_of(named)
    if splits is not None:
        items = told_by_file(splits, dataset.data)
        leaks = pixel_leaks(splits, items, dataset.pixels, dataset.images, id_domain=dataset.id_domain)
        if leaks:
            raise leakage_error(leaks, folder / "local", run=named.name)


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _command(options: argparse.Namespace, baseline: str) -> str:
    """Return the command with placeholders for the folders: the table may leave this machine."""
    words = ["movl-monai robustness", *(f"RUN_{number}" for number in range(1, len(options.runs) + 1))]
    words += [f"--baseline {baseline}", "--dataset_dir DIR --output_dir OUT"]
    named = {"images": options.images, "severities": options.severities, "corruptions": options.corruptions}
    named |= {"corruption_seed": options.corruption_seed, "rounds": options.rounds}
    words += [f"--{name} {value}" for name, value in named.items() if value is not None]
    return " ".join([*words, *shown_overrides(options.overrides)])
