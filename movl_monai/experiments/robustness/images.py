"""Test images of a robustness suite: in-distribution, labelled, with all classes, unseen by the runs."""

from __future__ import annotations

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from movl_monai.data import Datalist, IdMap, read_datalist
from movl_monai.errors import ConfigError, DataError, LeakageError
from movl_monai.experiments.compare.data import choose_images
from movl_monai.report.table import render_table
from movl_monai.transforms import image_to_uint8, uint8_to_image
from movl_monai.transforms.corruptions import CORRUPTIONS

__all__ = [
    "DATA_SETTINGS",
    "TestImages",
    "check_unseen",
    "choose_corruptions",
    "corrupt_images",
    "images_csv",
    "pixel_names",
    "read_test_images",
    "severities_of",
]

DATA_SETTINGS = (
    *("id_domain", "split_fractions", "calibration_fraction", "seed"),
    *("patient_pattern", "one_image_per_patient", "merge_labels", "encoding", "slice_axis"),
    *("allow_patient_overlap", "new_images"),
)
"""Settings of the data set that runs record and the command line may set."""


@dataclass(frozen=True)
class TestImages:
    """Test images of a suite.

    Args:
        datalist: their items.
        made: whether the split was made here, as in training, because the data set has none.
    """

    datalist: Datalist
    made: bool


def read_test_images(
    source: str | Path,
    *,
    class_names: Sequence[str],
    id_map: IdMap,
    count: int | None = None,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    kept_splits: Path | None = None,
) -> TestImages:
    """Read the labelled in-distribution test images of a data set.

    Args:
        source: data set, see :func:`~movl_monai.data.read_datalist`.
        class_names: class names of the networks, in the order of their logits.
        id_map: map that gives the ids.
        count: number of images to choose, balanced over classes and from as many patients as possible; None takes all.
        seed: seed of the choice.
        settings: settings of :data:`DATA_SETTINGS`, as in training. ``split_fractions`` and ``seed`` are used only if
            the data set has no test split.
        kept_splits: splits file of a training, whose test images are taken; None takes those of the data set.

    Raises:
        ConfigError: for any other setting.
        DataError: if there are no test images, or a class has none: balanced accuracy and AUROC are undefined then.
    """
    given = dict(settings or {})
    unknown = sorted(set(given) - set(DATA_SETTINGS))
    if unknown:
        raise ConfigError(
            f"`--{unknown[0]}` is not a setting of the data set; expected one of "
            f"{', '.join(f'--{name}' for name in DATA_SETTINGS)}, with the value it had in training."
        )
    options: dict[str, Any] = {"class_names": class_names, "id_map": id_map, "kept_splits": kept_splits, **given}
    datalist = read_datalist(source, **{**options, "split_fractions": None})
    made = kept_splits is None and not _test_items(datalist) and given.get("split_fractions") is not None
    if made:
        datalist = read_datalist(source, **options)
    items = _test_items(datalist)
    if not items:
        raise DataError(
            f"The domain '{datalist.id_domain}' has no labelled image in the split test. Fill the column `split` of "
            "the manifest; where training made the splits itself, give the same --split_fractions and --seed."
        )
    _check_classes(items, class_names)
    chosen = items if count is None else choose_images(items, count, seed=seed)
    return TestImages(datalist.part(chosen), made)


def _test_items(datalist: Datalist) -> list[dict[str, Any]]:
    return [item for item in datalist.select("test", datalist.id_domain) if item["label"] is not None]


def _check_classes(items: Sequence[Mapping[str, Any]], class_names: Sequence[str]) -> None:
    counts = Counter(item["label"] for item in items)
    missing = [name for label, name in enumerate(class_names) if not counts[label]]
    if missing:
        raise DataError(
            f"The test split has no image of {', '.join(map(repr, missing))} among its {len(items)} images; balanced "
            "accuracy and AUROC need every class. Give a data set whose test split has all classes of the networks."
        )


def images_csv(items: Sequence[Mapping[str, Any]], class_names: Sequence[str], id_map: IdMap) -> str:
    """Return CSV text with salted id, label and salted patient of each image, in the row order of the stored logits."""
    patients = [item["patient_id"] for item in items]
    rows = [
        {
            "id": item["id"],
            "label": class_names[item["label"]],
            "patient": None if patient is None else id_map.patient_id(patient),
        }
        for item, patient in zip(items, patients, strict=True)
    ]
    return render_table(rows, style="csv")


def check_unseen(items: Sequence[Mapping[str, Any]], run_dir: Path, *, name: str) -> bool:
    """Check that a run was neither trained nor selected on any of the images.

    The ids that the run saw are in its ``ingest_report.csv``, their files in its ``local/id_map.json``; both stay on
    the machine of the training.

    Returns:
        whether the check was possible.

    Raises:
        LeakageError: if the run has seen some of the images.
    """
    report, id_map = run_dir / "ingest_report.csv", run_dir / "local" / "id_map.json"
    if not report.is_file() or not id_map.is_file():
        return False
    with report.open(encoding="utf-8", newline="") as stream:
        seen = {row.get("id") for row in csv.DictReader(stream) if row.get("split") in ("train", "val", "calibration")}
    files = json.loads(id_map.read_text(encoding="utf-8")).get("files", {})
    learned = {(entry["path"], entry["frame"]) for image_id, entry in files.items() if image_id in seen}
    shared = sum((item["image"], item.get("frame")) in learned for item in items)
    if shared:
        raise LeakageError(
            f"{shared} of the {len(items)} test images were among the train or val images of the run '{name}', so that "
            "its figures would be too good. Give the --split_fractions and --seed of its training, or fill the column "
            "`split` of the manifest."
        )
    return True


def pixel_names(images: torch.Tensor) -> list[str]:
    """Return the SHA-256 of the pixels of each image, uint8 (N, 3, H, W).

    The corruptions seed their draws with this name. Salted ids differ between output folders, but the same image must
    get the same noise on every machine.

    Example:
        >>> [name[:8] for name in pixel_names(torch.zeros(1, 3, 2, 2, dtype=torch.uint8))]
        ['15ec7bf0']
    """
    return [hashlib.sha256(image.contiguous().numpy().tobytes()).hexdigest() for image in images]


def corrupt_images(
    images: torch.Tensor, names: Sequence[str], *, corruption: str, severity: int, seed: int
) -> torch.Tensor:
    """Corrupt images and round them to 256 grey levels, as the last step of every network's preprocessing does.

    Args:
        images: uint8 (N, 3, H, W).
        names: names of the images, which the draws depend on.
        corruption: a name of :data:`~movl_monai.transforms.corruptions.CORRUPTIONS`.
        severity: severity of the corruption; 0 changes nothing.
        seed: seed of the draws.

    Returns:
        uint8 (N, 3, H, W).
    """
    corrupt = CORRUPTIONS[corruption](severity=severity, seed=seed)
    pairs = zip(images, names, strict=True)
    return torch.stack([image_to_uint8(corrupt(uint8_to_image(image), name)) for image, name in pairs])


def choose_corruptions(names: Sequence[str] | None) -> list[str]:
    """Check names of corruptions and return them in table order; None takes all.

    Raises:
        ConfigError: for an unknown name, or an empty list.
    """
    wanted = list(CORRUPTIONS) if names is None else list(names)
    unknown = [name for name in wanted if name not in CORRUPTIONS]
    if unknown or not wanted:
        got = f"'{unknown[0]}'" if unknown else "none"
        raise ConfigError(f"Corruptions must be of {', '.join(CORRUPTIONS)}, got {got}.")
    return [name for name in CORRUPTIONS if name in wanted]


def severities_of(corruption: str, wanted: Sequence[int]) -> list[int]:
    """Return the requested severities of a corruption; a corruption with a single form always has severity 1.

    Raises:
        ConfigError: if the list is empty, or a severity is not from 1 to 5.

    Example:
        >>> severities_of("gamma", [5, 1]), severities_of("inversion", [3, 5])
        ([1, 5], [1])
    """
    largest = max(len(part.parameters) for part in CORRUPTIONS.values())
    if not wanted or any(not 1 <= severity <= largest for severity in wanted):
        raise ConfigError(f"Severities must be whole numbers from 1 to {largest}, such as 1,3,5, got {list(wanted)}.")
    own = len(CORRUPTIONS[corruption].parameters)
    return [1] if own == 1 else sorted(set(wanted))
