"""Complete and check the splits of a list: no patient in two splits, every class in train."""

from __future__ import annotations

import itertools
import logging
import warnings
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np

from movl_monai.data.columns import HOW_TO_NAME_PATIENTS
from movl_monai.data.entries import SPLITS, Entry, SplitName, natural_sorted
from movl_monai.errors import DataError, LeakageError

__all__ = [
    "check_can_split",
    "check_patients",
    "check_train_classes",
    "check_train_targets",
    "complete_splits",
    "grouped_split",
    "iterative_split",
    "set_aside_calibration",
]

_MAX_FOLDS = 10
_ATTEMPTS = 5
_MAX_BINS = 10  # of numbers, when they are split
logger = logging.getLogger(__name__)
_MADE: tuple[SplitName, ...] = ("train", "val", "test")  # splits with fractions
_PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")  # formats that name no patient


def grouped_split(labels: Sequence[str], groups: Sequence[str], *, fractions: Sequence[float], seed: int) -> list[int]:
    """Split images into parts that share no group and have similar class proportions.

    :class:`sklearn.model_selection.StratifiedGroupKFold` makes k <= 10 shuffled folds, with the k whose whole folds
    come nearest to the fractions (0.6, 0.2, 0.2 are 3, 1 and 1 of 5 folds). Only assignments of folds to parts that
    give every part every class are candidates. The one nearest to the fractions in each class is chosen; without a
    candidate, other shuffles and fold counts are tried. Groups are never divided, so with few or large groups the parts
    only approximate the fractions.

    Args:
        labels: class of each image.
        groups: group (patient) of each image.
        fractions: shares of two or more parts, each > 0; they are normalised.
        seed: of the shuffle. The result depends on the images, not on their order.

    Returns:
        Part of each image.

    Raises:
        DataError: if a class has fewer groups than parts, or no division has every class in every part.

    Example:
        >>> labels, groups = ["a", "b"] * 5, ["p1", "p1", "p2", "p2", "p3", "p3", "p4", "p4", "p5", "p5"]
        >>> parts = grouped_split(labels, groups, fractions=(0.6, 0.2, 0.2), seed=0)
        >>> [parts.count(part) for part in range(3)]
        [6, 2, 2]
    """
    members: dict[str, set[str]] = defaultdict(set)
    for label, group in zip(labels, groups, strict=True):
        members[label].add(group)
    short = [label for label in natural_sorted(members) if len(members[label]) < len(fractions)]
    if 2 * len(short) > len(members) > 2:
        # most likely folders of patients, taken for classes: their names are not repeated
        raise DataError(
            f"{len(short)} of {len(members)} classes have images of fewer patients than there are splits "
            f"({len(fractions)}). If the folders are patients and not classes, run `movl-monai ingest` with --labels; "
            "else add patients, merge classes, or make fewer splits."
        )
    for label in natural_sorted(members):
        if len(members[label]) < len(fractions):
            counts = ", ".join(f"{name} {len(members[name])}" for name in natural_sorted(members))
            raise DataError(
                f"Class {label!r} has images of {len(members[label])} patient(s), but each of the {len(fractions)} "
                f"splits needs one (patients per class: {counts}); add patients, merge classes, or make fewer splits."
            )
    # the same images in another order must give the same split
    order = sorted(range(len(labels)), key=lambda i: (groups[i], labels[i]))
    class_ids = np.unique([labels[i] for i in order], return_inverse=True)[1]
    group_ids = np.unique([groups[i] for i in order], return_inverse=True)[1]
    share = np.asarray(fractions, dtype=float) / sum(fractions)
    for folds, k in _folds(class_ids, group_ids, share, seed):
        dealt = _deal(folds, class_ids, share, k)
        if dealt is not None:
            parts = np.empty(len(labels), dtype=int)
            parts[order] = dealt[folds]
            return [int(part) for part in parts]
    raise DataError(
        "No division by patient was found that has every class in every split; give the splits in the "
        "column split of a CSV."
    )


def iterative_split(
    labels: Sequence[Sequence[int | None] | None], groups: Sequence[str], *, fractions: Sequence[float], seed: int
) -> list[int]:
    """Split images with several labels into parts that share no group and have similar shares of each label.

    Iterative stratification of the groups: the label with the fewest groups left comes first, and each of its groups
    goes to the part that wants this label most. A group has the union of the labels of its images. Both values of a
    label are stratified, and a label with no more groups left than there are parts without it goes to those parts.

    Args:
        labels: 1, 0 or None (unknown) for each of K labels, of each image; None if all are unknown.
        groups: group (patient) of each image.
        fractions: shares of two or more parts, each > 0; they are normalised.
        seed: of the order of groups and of ties. The result depends on the images, not on their order.

    Returns:
        Part of each image.

    Raises:
        DataError: if there are fewer groups than parts.

    Reference:
        Sechidis, Tsoumakas, Vlahavas, On the Stratification of Multi-Label Data, ECML PKDD 2011, algorithm 1. The
        values 0 as labels, groups, and the rule for rare labels are ours.

    Example:
        >>> parts = iterative_split([(1, 0), (0, 1)] * 5, [f"p{i}" for i in range(10)], fractions=(0.6, 0.4), seed=0)
        >>> [parts.count(part) for part in range(2)], [parts[::2].count(part) for part in range(2)]
        ([6, 4], [3, 2])
    """
    names = sorted(set(groups))
    if len(names) < len(fractions):
        raise DataError(
            f"The images are of {len(names)} patient(s), but each of the {len(fractions)} splits needs one; add "
            "patients, or make fewer splits."
        )
    rows = {name: row for row, name in enumerate(names)}
    width = max((len(label) for label in labels if label is not None), default=0)
    has = np.zeros((len(names), 2 * width), dtype=bool)
    for label, group in zip(labels, groups, strict=True):
        for place, value in enumerate(label or ()):
            if value is not None:
                has[rows[group], 2 * place + value] = True
    dealt = _deal_iteratively(has, np.asarray(fractions, dtype=float) / sum(fractions), np.random.default_rng(seed))
    return [int(dealt[rows[group]]) for group in groups]


def _deal_iteratively(has: np.ndarray, share: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return the part of each of N groups with the labels ``has`` (N, L)."""
    parts = np.full(len(has), -1)
    order = random.permutation(len(has))
    wanted, total = share[:, None] * has.sum(axis=0), share * len(has)
    given = np.zeros(wanted.shape, dtype=int)
    while (parts < 0).any():
        free = parts < 0
        left = has[free].sum(axis=0)
        label = int(np.argmin(np.where(left > 0, left, np.inf))) if (left > 0).any() else None
        waiting = [row for row in order if free[row] and (label is None or has[row, label])]
        for number, row in enumerate(waiting):
            # the label wanted most, then the largest part that is not full, then chance
            scores = total if label is None else wanted[:, label] + 1e-6 * total
            lacking = [part for part in range(len(share)) if label is not None and not given[part, label]]
            choice = lacking if len(waiting) - number <= len(lacking) else range(len(share))
            best = max(scores[part] for part in choice)
            part = int(random.choice([part for part in choice if scores[part] >= best - 1e-9]))
            parts[row] = part
            wanted[part] -= has[row]
            given[part] += has[row]
            total[part] -= 1
    return parts


def _quantile_labels(numbers: Sequence[float | None], groups: Sequence[str], parts: int) -> list[str]:
    """Return a bin for each image: its patient's rank by the mean number, in bins of several patients per part."""
    values: dict[str, list[float]] = {group: [] for group in sorted(set(groups))}
    for number, group in zip(numbers, groups, strict=True):
        values[group] += [] if number is None else [number]
    known = sorted((group for group in values if values[group]), key=lambda group: (np.mean(values[group]), group))
    bins = max(1, min(_MAX_BINS, len(known) // (2 * parts)))
    found = {group: rank * bins // len(known) for rank, group in enumerate(known)}
    for place, group in enumerate(group for group in values if not values[group]):
        found[group] = place % bins  # without a number any bin will do
    return [f"bin {found[group]}" for group in groups]


def _folds(
    class_ids: np.ndarray, group_ids: np.ndarray, share: np.ndarray, seed: int
) -> Iterator[tuple[np.ndarray, int]]:
    """Yield the fold of each image, for fold counts from the best to the worst fit, in several shuffles."""
    from sklearn.model_selection import StratifiedGroupKFold

    largest = min(_MAX_FOLDS, int(np.bincount(class_ids).max()), int(group_ids.max()) + 1)
    counts = range(len(share), max(largest, len(share)) + 1)
    by_fit = sorted(counts, key=lambda k: (round(float(np.abs(_whole_folds(share, k) / k - share).max()), 3), k))
    for attempt, k in itertools.product(range(_ATTEMPTS), by_fit):
        splitter = StratifiedGroupKFold(n_splits=k, shuffle=True, random_state=seed + attempt)
        folds = np.empty(len(class_ids), dtype=int)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The least populated class")
            for fold, (_, held_out) in enumerate(splitter.split(class_ids, class_ids, group_ids)):
                folds[held_out] = fold
        yield folds, k


def _whole_folds(share: np.ndarray, k: int) -> np.ndarray:
    """Return the number of k folds for each part: at least one, largest remainders first."""
    whole = np.maximum(np.floor(share * k + 1e-9).astype(int), 1)
    while whole.sum() < k:
        whole[np.argmax(share * k - whole)] += 1
    while whole.sum() > k:
        whole[np.argmax(np.where(whole > 1, whole - share * k, -np.inf))] -= 1
    return whole


def _deal(folds: np.ndarray, class_ids: np.ndarray, share: np.ndarray, k: int) -> np.ndarray | None:
    """Return the part of each fold, nearest to the shares in every class; None if some part always lacks a class."""
    per_fold = np.zeros((k, int(class_ids.max()) + 1))
    np.add.at(per_fold, (folds, class_ids), 1)
    totals = per_fold.sum(axis=0)
    best, lowest = None, np.inf
    for dealt in _dealings(_whole_folds(share, k)):
        counts = np.stack([per_fold[dealt == part].sum(axis=0) for part in range(len(share))])
        error = float(np.abs(counts / totals - share[:, None]).sum())
        if (counts > 0).all() and error < lowest - 1e-9:
            best, lowest = dealt, error
    return best


def _dealings(whole: np.ndarray) -> Iterator[np.ndarray]:
    """Yield every assignment of ``whole[part]`` folds to each part."""

    def extend(dealt: list[int], left: list[int]) -> Iterator[list[int]]:
        if not any(left):
            yield dealt
        for part, count in enumerate(left):
            if count:
                yield from extend([*dealt, part], [n - (p == part) for p, n in enumerate(left)])

    for dealt in extend([], whole.tolist()):
        yield np.array(dealt)


def complete_splits(entries: Sequence[Entry], *, fractions: Sequence[float], seed: int) -> None:
    """Fill in missing splits in place; a given split is changed only in the last case:

    - no split given: all images are split by ``fractions``;
    - some images without a split: images of a patient with a split get that split, the others fill the missing splits
      (with a given test set and the rest blank, the rest becomes train and val);
    - every image has a split, but val or test is missing: it is taken out of train, by the fractions of train and
      of the missing split. A test set is never taken out of val, nor the reverse.

    Args:
        entries: images of the in-distribution domain.
        fractions: of train, val and test; a split of fraction 0 is not made.
        seed: of the shuffle.

    Raises:
        DataError: if patients or labels are unknown where a split must be made, there is no training image although
            train is wanted, or images without a split remain.
    """
    pool, targets, shares = _to_be_split(entries, fractions)
    if targets:
        _distribute(pool, targets, shares, seed)


def check_can_split(entries: Sequence[Entry], *, fractions: Sequence[float], one_image_per_patient: bool) -> None:
    """Check that missing splits can be made, before any header is read; the entries are of no use afterwards.

    Args:
        entries: images of the in-distribution domain.
        fractions: of train, val and test.
        one_image_per_patient: whether images without a patient are of as many patients.

    Raises:
        DataError: as :func:`complete_splits`; of unknown patients if no header can name them.
    """
    pool, targets, _ = _to_be_split(entries, fractions)
    unknown = [entry for entry in pool if entry.patient is None]
    if len(targets) > 1 and not one_image_per_patient and all(_is_picture(entry) for entry in unknown):
        _check_known(pool)


def _is_picture(entry: Entry) -> bool:
    return entry.path.suffix.lower() in _PICTURES


def _to_be_split(
    entries: Sequence[Entry], fractions: Sequence[float]
) -> tuple[list[Entry], list[SplitName], list[float]]:
    """Return the images to be split, and the splits to be made with their shares; none if all are there."""
    wanted = {split: fraction for split, fraction in zip(_MADE, _checked(fractions), strict=True) if fraction > 0}
    blank = [entry for entry in entries if entry.split is None]
    given = {entry.patient: entry.split for entry in entries if entry.split and entry.patient}
    for entry in blank:
        entry.split = given.get(entry.patient) if entry.patient else None
    blank = [entry for entry in blank if entry.split is None]
    missing = [split for split in wanted if all(entry.split != split for entry in entries)]
    if blank and not missing:
        raise DataError(
            f"{len(blank)} images have no split although {', '.join(wanted)} are given; fill the column `split`, or "
            "empty all of it to have splits made by patient."
        )
    if not missing:
        return [], [], []
    if not blank:
        if "train" in missing:
            raise DataError(
                "There are no training images: every image is marked "
                f"{' or '.join(natural_sorted(entry.split or '' for entry in entries))}. To evaluate only, set "
                "split_fractions=None or list the source in ood_dataset_dirs; to train, mark images as train."
            )
        blank, missing = [entry for entry in entries if entry.split == "train"], ["train", *missing]
    return blank, missing, [wanted.get(split, 0.0) for split in missing]


def set_aside_calibration(entries: Sequence[Entry], *, fraction: float, seed: int) -> None:
    """Move a share of the val patients to the split "calibration" in place, unseen by any selection on val.

    Every class keeps about its share. Conformal sets are calibrated on this split.

    Args:
        entries: images of the in-distribution domain, with their splits.
        fraction: share of the val patients, in [0, 1); 0 takes none.
        seed: of the shuffle.

    Raises:
        DataError: if the fraction is out of range, the source already marks images as calibration, val is empty, or
            patients or labels of val are unknown or too few for every class on both sides.
    """
    if not 0 <= fraction < 1:
        raise DataError(f"calibration_fraction must be in [0, 1), a share of the val patients, got {fraction}.")
    given = sum(entry.split == "calibration" for entry in entries)
    if fraction == 0:
        return
    if given:
        raise DataError(
            f"The list marks {given} images as calibration, and calibration_fraction={fraction} asks for more; set it "
            "to 0, or leave the split of those images empty."
        )
    pool = [entry for entry in entries if entry.split == "val"]
    if not pool:
        raise DataError("calibration_fraction takes patients out of val, but there are no val images; add some.")
    try:
        _distribute(pool, ["val", "calibration"], [1 - fraction, fraction], seed)
    except DataError as error:
        raise DataError(f"calibration_fraction={fraction} cannot be taken out of val: {error}") from error


def _checked(fractions: Sequence[float]) -> Sequence[float]:
    numbers = isinstance(fractions, Sequence) and all(isinstance(share, (int, float)) for share in fractions)
    if not numbers or len(fractions) != 3 or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6:
        raise DataError(
            f"split_fractions must be three numbers >= 0 that add up to 1, got {fractions}; "
            "`--split_fractions 0.6,0.2,0.2` is usual."
        )
    return fractions


def _distribute(pool: list[Entry], targets: list[SplitName], fractions: list[float], seed: int) -> None:
    unlabelled = sum(entry.label is None for entry in pool)
    by_target = any(entry.target is not None for entry in pool)
    if unlabelled and not by_target:
        raise DataError(f"{unlabelled} of the {len(pool)} images to be split have no label; label them or remove them.")
    if len(targets) == 1:
        parts = [0] * len(pool)
    else:
        _check_known(pool)
        patients, targets_of = [str(entry.patient) for entry in pool], [entry.target for entry in pool]
        if any(isinstance(target, tuple) for target in targets_of):
            parts = iterative_split(targets_of, patients, fractions=fractions, seed=seed)
        else:
            labels = [str(entry.label) for entry in pool]
            labels = _quantile_labels(targets_of, patients, len(fractions)) if by_target else labels
            parts = grouped_split(labels, patients, fractions=fractions, seed=seed)
    for entry, part in zip(pool, parts, strict=True):
        entry.split = targets[part]
    shares = ", ".join(f"{split} {parts.count(part)}" for part, split in enumerate(targets))
    logger.info("Split %d images by patient (seed %d): %s", len(pool), seed, shares)


def _check_known(pool: Sequence[Entry]) -> None:
    unknown = sum(entry.patient is None for entry in pool)
    if unknown:
        raise DataError(
            f"The images must be split, but the patient of {unknown} of {len(pool)} is not known (not in the list, "
            f"and PatientID is absent, empty or the same everywhere). {HOW_TO_NAME_PATIENTS}"
        )


def check_patients(entries: Sequence[Entry], *, allow_overlap: bool, respelled: Collection[str] = ()) -> None:
    """Check that no patient is in two splits.

    Args:
        entries: images of the in-distribution domain.
        allow_overlap: log an overlap instead of raising.
        respelled: patients with several spellings.

    Raises:
        LeakageError: for a patient in two splits, with counts and no names, unless ``allow_overlap``.
    """
    splits: dict[str, set[SplitName]] = defaultdict(set)
    for entry in entries:
        if entry.patient and entry.split:
            splits[entry.patient].add(entry.split)
    shared = Counter("+".join(s for s in SPLITS if s in found) for found in splits.values() if len(found) > 1)
    if not shared:
        return
    counts = ", ".join(f"{where} {count}" for where, count in sorted(shared.items()))
    twice = sum(len(found) > 1 and patient in respelled for patient, found in splits.items())
    spelled = f", {twice} of them in more than one spelling, such as 7 and 007" if twice else ""
    message = f"{sum(shared.values())} of {len(splits)} patients have images in more than one split ({counts}){spelled}"
    if not allow_overlap:
        raise LeakageError(
            f"{message}. Give all images of a patient one split (`movl-monai check DATA --output_dir DIR` lists them), "
            "or no image a split, to have splits made by patient: empty the whole column `split`, or take the class "
            "folders out of train, val and test. `--allow_patient_overlap true` goes on with figures that are too good."
        )
    logger.warning("%s; figures on val and test will be too good.", message)


def check_train_classes(entries: Sequence[Entry], class_names: Sequence[str], *, allow_missing: bool = False) -> None:
    """Check that train and val have every class; a test set that lacks a class is only logged.

    Args:
        entries: images of the in-distribution domain.
        class_names: the classes to be learned.
        allow_missing: log a class without an image in val, instead of raising.

    Raises:
        DataError: if a class has no image in train, or in val, which selects the state.
    """
    for split in SPLITS:
        present = {entry.label for entry in entries if entry.split == split}
        absent = [name for name in class_names if name not in present]
        if not present or not absent:
            continue
        if split == "train":
            raise DataError(f"No training image of class {', '.join(map(repr, absent))}; add some or remove the class.")
        if split == "val" and not allow_missing:
            raise DataError(
                f"No image of class {', '.join(map(repr, absent))} in val, so that the state is selected without a "
                "look at it. Move some images of it to val, or leave the column split empty to have splits made; "
                "`--allow_missing_classes true` goes on without."
            )
        logger.warning("No image of class %s in %s.", ", ".join(map(repr, absent)), split)


def check_train_targets(entries: Sequence[Entry], names: Sequence[str], *, allow_missing: bool = False) -> None:
    """Check that train and val have images with and without each finding, or different numbers.

    Args:
        entries: images of the in-distribution domain.
        names: of the findings, or of the number.
        allow_missing: log what val lacks, instead of raising.

    Raises:
        DataError: if a finding has no positive or no negative image in train or val, or train has fewer than two
            different numbers, or val has none.
    """
    for split in SPLITS:
        targets = [entry.target for entry in entries if entry.split == split]
        absent = [what for position, name in enumerate(names) for what in _absent(targets, position, name, split)]
        if not targets or not absent:
            continue
        if split == "train":
            raise DataError(f"In train there is {absent[0]}; add some, or leave it out (label_columns).")
        if split == "val" and not allow_missing:
            raise DataError(
                f"In val there is {absent[0]}, so that the state is selected without a look at it. Move some to val, "
                "or leave the column split empty to have splits made; `--allow_missing_classes true` goes on without."
            )
        logger.warning("In %s there is %s.", split, "; ".join(absent))


def _absent(targets: Sequence[Any], position: int, name: str, split: SplitName) -> Iterator[str]:
    """Yield what a split lacks of a finding, or of a number."""
    known = [target for target in targets if target is not None]
    if not any(isinstance(target, tuple) for target in known):
        if len(set(known)) < (2 if split == "train" else 1):
            yield f"no image with the number {name!r}" if not known else f"one number {name!r} for all images"
        return
    values = {target[position] for target in known}
    yield from (
        f"no image {word} the finding {name!r}" for value, word in ((1, "with"), (0, "without")) if value not in values
    )
