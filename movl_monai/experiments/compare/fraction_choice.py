"""Choice of training images for a fraction of the labels: whole patients, nested, seeded."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from movl_monai.errors import ConfigError, DataError
from movl_monai.experiments.compare.strata import strata, stratum_name

__all__ = ["choose_fraction", "parse_fractions"]


def parse_fractions(text: str) -> list[float]:
    """Return the fractions of `--label_fractions 0.1,0.5,1.0`, in ascending order.

    Raises:
        ConfigError: if they are not different numbers in (0, 1], or lack 1.0, the reference of the others.

    Example:
        >>> parse_fractions("1.0,0.25")
        [0.25, 1.0]
    """
    try:
        fractions = sorted(float(word) for word in text.split(",") if word.strip())
    except ValueError:
        fractions = []
    if len(set(fractions)) < len(fractions) or not all(0 < fraction <= 1 for fraction in fractions):
        fractions = []
    if not fractions or fractions[-1] != 1:
        raise ConfigError(
            "--label_fractions must be different numbers above 0 and up to 1, separated by commas, with 1.0 among "
            f"them, such as 0.1,0.2,0.4,0.6,1.0; got '{text}'."
        )
    return fractions


def choose_fraction(
    items: Sequence[dict[str, Any]], fraction: float, *, seed: int = 0, class_names: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Choose whole patients until they have a fraction of the images; larger fractions contain smaller ones.

    Patients have one seeded order, in which classes are mixed in proportion to their frequency. The choice is its
    shortest beginning with at least ``fraction`` of the images. A patient belongs to the majority class of his or her
    images; an image without a patient counts as a separate patient. The class of an image with several findings is its
    rarest one, that of a number its fifth.

    Args:
        items: training items, with ``label``, ``patient_id``, ``image`` and ``id``.
        fraction: in (0, 1].
        seed: of the order; the choice depends on the images, not on the order of ``items``.
        class_names: for the message.

    Returns:
        The chosen items in the order of ``items``.

    Raises:
        DataError: if a class has no image in the choice.

    Example:
        >>> items = [{"id": str(i), "image": str(i), "label": i % 2, "patient_id": f"p{i // 2 % 4}"} for i in range(16)]
        >>> few, more = (choose_fraction(items, fraction) for fraction in (0.25, 0.5))
        >>> len(few), len(more), all(item in more for item in few)
        (4, 8, True)
    """
    chosen: set[str] = set()
    count = 0
    kinds = strata(items)
    for patient in _patient_order(items, kinds, seed):
        if count >= round(fraction * len(items)) and chosen:
            break
        chosen.update(item["id"] for item in patient)
        count += len(patient)
    result = [item for item in items if item["id"] in chosen]
    missing = sorted(set(kinds.values()) - {kinds[item["id"]] for item in result})
    if missing:
        names = [stratum_name(label, items, class_names) for label in missing]
        raise DataError(
            f"The fraction {fraction:g} of the training images, {len(result)} of {len(items)}, has no image of "
            f"{', '.join(names)}; take a larger fraction, or leave it out."
        )
    return result


def _patient_order(items: Sequence[dict[str, Any]], kinds: Mapping[str, int], seed: int) -> list[list[dict[str, Any]]]:
    """Return the patients, as lists of items, in a seeded order with evenly mixed classes."""
    groups: dict[Any, list[dict[str, Any]]] = {}
    for item in sorted(items, key=_name):
        groups.setdefault(("image", item["id"]) if item["patient_id"] is None else item["patient_id"], []).append(item)
    by_class: dict[int, list[list[dict[str, Any]]]] = {}
    for group in groups.values():
        label = max(sorted(counts := Counter(kinds[item["id"]] for item in group)), key=counts.__getitem__)
        by_class.setdefault(label, []).append(group)
    places = []
    for label in sorted(by_class):
        patients = by_class[label]
        random.Random(f"{seed}-{label}").shuffle(patients)
        places += [((rank + 0.5) / len(patients), label, rank, patient) for rank, patient in enumerate(patients)]
    return [patient for *_, patient in sorted(places, key=lambda place: place[:3])]


def _name(item: Mapping[str, Any]) -> tuple[str, int, str]:
    # ids are salted anew in every output folder, paths are not
    return str(item.get("image", "")), int(item.get("frame") or 0), str(item["id"])
