"""Images of a comparison, decoded once for all arms, with separate sets for training and for reporting."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from movl_monai.data import Datalist, ImageDataset
from movl_monai.errors import DataError
from movl_monai.experiments.compare.fraction_choice import choose_fraction
from movl_monai.experiments.compare.strata import label_counts, strata

__all__ = ["ComparisonData", "TestData", "TrainingData", "choose_images", "draw_lists", "fingerprint", "split_lists"]

_TRAIN, _VAL = "train", "val"


@dataclass(frozen=True)
class TrainingData:
    """Complete input of a search trial or a training: the train and val images, and nothing else.

    Args:
        datalist: their items.
        images: the same, decoded.
    """

    datalist: Datalist
    images: ImageDataset

    def __post_init__(self) -> None:
        splits = {item["split"] for item in (*self.datalist, *self.images.data)}
        domains = {item["domain"] for item in (*self.datalist, *self.images.data)}
        if not splits <= {_TRAIN, _VAL} or domains != {self.datalist.id_domain}:
            raise DataError(
                f"Training may see the in-distribution train and val images only, got splits "
                f"{sorted(map(str, splits))} of the domains {sorted(domains)}."
            )


@dataclass(frozen=True)
class TestData:
    """Evaluated images: the in-distribution test images and the images of all other domains.

    A classification also has the val images, which move its threshold.

    Args:
        datalist: their items.
        images: the same, decoded.
    """

    datalist: Datalist
    images: ImageDataset


@dataclass(frozen=True)
class ComparisonData:
    """Lists of a comparison.

    Args:
        training: the in-distribution train and val items.
        test: the in-distribution test items and the items of all other domains.
        fingerprints: SHA-256 of both lists.
    """

    training: Datalist
    test: Datalist
    fingerprints: dict[str, str]

    def sizes(self) -> dict[str, Any]:
        """Return images by split (or domain) and class, and patients, for the table."""
        names = self.training.class_names
        parts = {split: list(self.training.select(split)) for split in (_TRAIN, _VAL)}
        for domain in self.test.domains:
            title = "test (id)" if domain == self.test.id_domain else f"ood: {domain}"
            parts[title] = list(self.test.select(domain=domain))
        return {title: _size(items, names) for title, items in parts.items()}


def split_lists(
    datalist: Datalist,
    *,
    train_images: int | None = None,
    val_images: int | None = None,
    train_fraction: float | None = None,
    seed: int = 0,
    digests: dict[str, str] | None = None,
) -> ComparisonData:
    """Divide a list into training and reported images.

    Args:
        datalist: the whole list.
        train_images: number of training images, see :func:`choose_images`; None keeps all.
        val_images: number of validation images, chosen in the same way; None keeps all.
        train_fraction: part of the (chosen) training images to keep, in whole patients, see
            :func:`~movl_monai.experiments.compare.fraction_choice.choose_fraction`; None keeps all.
        seed: of the choices.
        digests: known digests of files by path; extended here.

    Raises:
        DataError: if there are no train, val or test images, or a choice leaves a class without an image.
    """
    known = datalist.part(item for item in datalist if _is_known(item))
    chosen: list[dict[str, Any]] = []
    for split, count in ((_TRAIN, train_images), (_VAL, val_images)):
        items = list(known.select(split, datalist.id_domain))
        if not items:
            raise DataError(
                f"A {split} split is needed, but the domain '{datalist.id_domain}' has no labelled image in "
                f"it: methods are trained on train, and searched and selected on val. Fill the column `split` of the "
                "manifest, or leave it empty and set `split_fractions`, e.g. `--split_fractions '[0.6, 0.2, 0.2]'`."
            )
        if count is not None:
            items = choose_images(items, count, seed=seed, option=f"--{split}_images {count}")
        if split == _TRAIN and train_fraction is not None:
            _check_classes(items)
            items = choose_fraction(items, train_fraction, seed=seed, class_names=datalist.class_names)
        chosen += items
    test = datalist.for_evaluation(by_pixels=False)
    if not any(_is_known(item) for item in test):
        raise DataError("Labelled test images, or images of another domain, are needed; the list has neither.")
    training = datalist.part(chosen)
    digests = {} if digests is None else digests
    parts = {"training": training, "test": test}
    return ComparisonData(training, test, {name: fingerprint(part, digests) for name, part in parts.items()})


def draw_lists(datalist: Datalist, *, draws: int = 1, seed: int = 0, **choices: Any) -> list[ComparisonData]:
    """Divide a list several times, with a new choice of training (and val) images each time.

    Draw k uses ``seed + k``, so that draws can be added later. Classes take turns in a choice, see
    :func:`choose_images`, so that no draw lacks a class. Test images are the same in all draws.

    Args:
        datalist: the whole list.
        draws: number of draws, >= 1.
        seed: of the first draw.
        choices: the choices of :func:`split_lists`.

    Raises:
        DataError: if all training images are used, which makes all draws equal; otherwise as :func:`split_lists`.
    """
    digests: dict[str, str] = {}
    found = [split_lists(datalist, seed=seed + draw, digests=digests, **choices) for draw in range(draws)]
    train = [item for item in datalist.select(_TRAIN, datalist.id_domain) if _is_known(item)]
    if draws > 1 and len(found[0].training.select(_TRAIN)) == len(train):
        raise DataError(
            f"--draws {draws} draws training images anew, but all {len(train)} of them are used, so that every draw "
            f"would be the same. Expected --train_images K with K below {len(train)}."
        )
    return found


def _check_classes(items: Sequence[dict[str, Any]]) -> None:
    if any(item["label"] is None for item in items):
        raise DataError(
            "Fractions of the labels keep the shares of the classes, but images with masks have no class; give "
            "--train_images instead."
        )


def _is_known(item: dict[str, Any]) -> bool:
    """Return True if the target of an image is known."""
    return item["label"] is not None or "mask" in item


def choose_images(
    items: Sequence[dict[str, Any]], count: int, *, seed: int = 0, option: str = ""
) -> list[dict[str, Any]]:
    """Choose images with balanced classes and as many patients as possible.

    Classes take turns until one has no more images. Within a class every patient, in a shuffled order, contributes one
    image before any contributes a second. The class of an image with several findings is its rarest one, of a number
    its fifth.

    Args:
        items: of one split, with ``label``, ``patient_id`` (None counts as a separate patient) and ``id``.
        count: number of images, > 0; all if there are fewer.
        seed: of the shuffle; the result depends on the images, not on their order.
        option: as typed by the user, for the message.

    Returns:
        The chosen items in the order of ``items``.

    Raises:
        DataError: if ``count`` is below the number of classes.

    Example:
        >>> items = [{"id": str(i), "label": i % 2, "patient_id": "a" if i < 6 else "b"} for i in range(8)]
        >>> chosen = choose_images(items, 4)
        >>> sorted(item["label"] for item in chosen), {item["patient_id"] for item in chosen} == {"a", "b"}
        ([0, 0, 1, 1], True)
    """
    kinds = strata(items)
    classes = sorted(set(kinds.values()))
    if count < len(classes):
        raise DataError(
            f"{option + ': ' if option else ''}Choosing {count} images of {len(classes)} classes leaves one without; "
            f"choose {len(classes)} or more."
        )
    waiting = {label: _by_patient([item for item in items if kinds[item["id"]] == label], seed) for label in classes}
    chosen: set[str] = set()
    while len(chosen) < count and any(waiting.values()):
        for label in classes:
            if waiting[label] and len(chosen) < count:
                chosen.add(waiting[label].pop(0)["id"])
    return [item for item in items if item["id"] in chosen]


def _by_patient(items: Sequence[dict[str, Any]], seed: int) -> list[dict[str, Any]]:
    """Return the items in order of choice: the first of every patient, then the second of every patient."""
    shuffled = sorted(items, key=_name)
    random.Random(seed).shuffle(shuffled)
    turns: Counter[Any] = Counter()
    order = []
    for item in shuffled:
        patient = item["patient_id"] if item["patient_id"] is not None else ("image", item["id"])
        order.append((turns[patient], item))
        turns[patient] += 1
    return [item for _, item in sorted(order, key=lambda pair: pair[0])]


def _name(item: dict[str, Any]) -> tuple[str, int, str]:
    # ids are salted anew in every output folder, paths are not
    return str(item.get("image", "")), int(item.get("frame") or 0), str(item["id"])


def fingerprint(datalist: Datalist, digests: dict[str, str] | None = None) -> str:
    """Return the SHA-256 of the files' bytes (including masks), labels, splits, domains, frames and patient groups.

    Names are not included.

    Args:
        datalist: the list.
        digests: known digests of files by path; extended here.
    """
    digest = hashlib.sha256()
    files = {} if digests is None else digests
    patients: dict[Any, int] = {}
    for item in datalist:
        path = item["image"]
        if path not in files:
            files[path] = _digest(Path(path))
        patient = item["patient_id"]
        number = None if patient is None else patients.setdefault(patient, len(patients))
        facts = (files[path], item["label"], item["split"], item["domain"], item.get("frame"), number)
        digest.update(repr(facts).encode())
        if (mask := item.get("mask")) is not None and item["label"] is None:
            if mask not in files:
                files[mask] = _digest(Path(mask))
            digest.update(files[mask].encode())
    digest.update(repr(datalist.class_names).encode())
    return digest.hexdigest()


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    files = sorted(part for part in path.rglob("*") if part.is_file()) if path.is_dir() else [path]
    for file in files:
        try:
            with file.open("rb") as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
        except OSError:
            digest.update(b"unreadable")  # the decoder reports it
    return digest.hexdigest()


def _size(items: Sequence[dict[str, Any]], class_names: Sequence[str]) -> dict[str, Any]:
    patients = {item["patient_id"] for item in items}
    counts = label_counts(items, class_names)
    return {"images": len(items), "patients": None if None in patients else len(patients), "classes": counts}
