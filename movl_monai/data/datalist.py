"""List of images, the input of all later steps."""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from movl_monai.data.entries import SPLITS, SkippedFile
from movl_monai.data.ids import IdMap
from movl_monai.data.targets import labels_of
from movl_monai.errors import DataError

if TYPE_CHECKING:
    from movl_monai.data.keep import Keeping
    from movl_monai.data.units import Units

__all__ = ["Datalist"]

Item = dict[str, Any]
_SECTIONS = {
    "train": "training",
    "val": "validation",
    "calibration": "calibration",
    "test": "test",
    None: "unsplit",
}


class Datalist(Sequence[Item]):
    """Sequence of items, one per image (or per frame of a multi-frame file).

    An item is ``{"image": absolute path, "label": int | None, "patient_id": str | None,
    "split": "train" | "val" | "calibration" | "test" | None, "domain": str, "id": salted id}``. The ``label`` of a
    class is its position in ``class_names``, of several findings a tuple of 1, 0 and None, of a regression a float.
    Optional entries are ``"unit": salted id`` and ``"instance": int`` of an image that is one of several of a series,
    study or patient, ``"frame": int`` (from 0) for a file with several frames, ``"mask": absolute path``,
    ``"groups": {column: value}`` for the group columns, and ``"case": salted id`` of a slice's volume in a list with
    masks. If the splits of a training are kept, ``"known"`` is the image's split in that training, "" for an image that
    was not part of it. Items are ordered by domain (the in-distribution domain first), split, and natural order of the
    path.

    Items of other domains than ``id_domain`` are for evaluation only, whatever their split.

    Args:
        items: the items.
        class_names: names of the classes, in the order of the labels.
        id_domain: name of the in-distribution domain.
        far_domains: domains of another kind of images, without labels, for OOD detection only.
        skipped: skipped files, with the reason.
        id_map: salt and reverse map of the ids.
        keeping: the splits of a training that the items keep; None for new splits.
        task: name of the task that the labels are for, see :mod:`movl_monai.data.targets`.
        units: how the images make series, studies or patients; None for single images.

    Attributes:
        whole: the complete list that this one is a part of, or itself.
        wanted: splits to evaluate, if images must still be recognised by their pixels.
        fingerprints: contents of the list by domain and split, for reports.

    Example:
        >>> item = {"image": "/a.png", "label": 1, "patient_id": None, "split": "val", "domain": "id", "id": "0" * 12}
        >>> datalist = Datalist([item], class_names=["normal", "pneumonia"])
        >>> len(datalist.select("val")), len(datalist.select("test"))
        (1, 0)
    """

    def __init__(
        self,
        items: Iterable[Item],
        *,
        class_names: Sequence[str],
        id_domain: str = "id",
        far_domains: Iterable[str] = (),
        skipped: Iterable[SkippedFile] = (),
        id_map: IdMap | None = None,
        keeping: Keeping | None = None,
        task: str = "classification",
        units: Units | None = None,
    ) -> None:
        self._items = list(items)
        self.task = task
        self.units = units
        self.keeping = keeping
        self.whole = self
        self.wanted: tuple[str, ...] | None = None
        self.fingerprints: dict[str, Any] = {}
        self.class_names = list(class_names)
        self.id_domain = id_domain
        self.far_domains = list(far_domains)
        self.skipped = list(skipped)
        self.id_map = IdMap() if id_map is None else id_map  # an empty map is false, but has a salt

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> Datalist: ...
    def __getitem__(self, index: int | slice) -> Item | Datalist:
        return self._with(self._items[index], self.skipped) if isinstance(index, slice) else self._items[index]

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Item]:
        return iter(self._items)

    @property
    def domains(self) -> list[str]:
        """Names of the domains, the in-distribution one first."""
        names = dict.fromkeys(item["domain"] for item in self._items)
        return sorted(names, key=lambda name: name != self.id_domain)

    @property
    def ood_domains(self) -> list[str]:
        """Names of the domains for evaluation only."""
        return [name for name in self.domains if name != self.id_domain]

    def select(self, split: str | Sequence[str] | None = None, domain: str | Sequence[str] | None = None) -> Datalist:
        """Return the items of one or several splits and domains; None selects all."""
        splits = None if split is None else {split} if isinstance(split, str) else set(split)
        domains = None if domain is None else {domain} if isinstance(domain, str) else set(domain)

        def wanted(item_split: str | None, item_domain: str | None) -> bool:
            return (splits is None or item_split in splits) and (domains is None or item_domain in domains)

        items = [item for item in self._items if wanted(item["split"], item["domain"])]
        # a file skipped before its split was known belongs only to the whole list
        return self._with(items, [file for file in self.skipped if wanted(file.split, file.domain)])

    def for_training(self) -> Datalist:
        """Return the in-distribution train and val splits, without skipped files of other splits or domains."""
        chosen = [
            item for item in self._items if item["domain"] == self.id_domain and item["split"] in ("train", "val")
        ]
        splits = ("train", "val", None)
        skipped = [file for file in self.skipped if file.domain in (self.id_domain, None) and file.split in splits]
        return self._with(chosen, skipped)

    def for_evaluation(
        self, splits: Sequence[str] = ("test",), *, far: bool = False, by_pixels: bool = True
    ) -> Datalist:
        """Return in-distribution splits and every image of the other domains, for one pass of evaluation.

        Args:
            splits: some of "train", "val", "calibration" and "test"; fits after training (a temperature, conformal
                sets, OOD detectors) need more than the test split.
            far: whether to include the far domains.
            by_pixels: whether to include images whose files the training did not know; after decoding their pixels
                decide their split, see ``keeping``.

        Raises:
            DataError: if a split is unknown, or none is given.
        """
        unknown = sorted(set(splits) - set(SPLITS))
        if unknown or not splits or isinstance(splits, str):
            raise DataError(f"evaluation_splits must be a list of some of {', '.join(SPLITS)}, got {splits!r}.")
        left_out = set() if far else set(self.far_domains)

        def wanted(domain: str | None, split: str | None) -> bool:
            return split in splits if domain == self.id_domain else domain not in left_out

        # the pixels may decide the split of an image whose file was not part of the training
        chosen = [
            item
            for item in self._items
            if wanted(item["domain"], item["split"])
            or (by_pixels and item["split"] is None and item.get("known") == "")
        ]
        # a file skipped before its split was known may belong to any split
        skipped = [file for file in self.skipped if wanted(file.domain, file.split or splits[0])]
        result = self._with(chosen, skipped)
        result.wanted = tuple(splits) if by_pixels else None
        return result

    def summary(self) -> str:
        """Return a table of images and patients per domain, split and class, without names of files or patients."""
        lines = [_row("domain", "split", "class", "images", "patients")]
        groups: dict[tuple[str, str | None], list[Item]] = defaultdict(list)
        for item in self._items:
            groups[item["domain"], item["split"]].append(item)
        for domain in self.domains:
            for split in (*SPLITS, None):
                lines += self._summary_rows(domain, split, groups.get((domain, split), []))
        reasons = Counter(file.reason for file in self.skipped)
        lines += [f"skipped: {', '.join(f'{reason} {n}' for reason, n in reasons.most_common())}"] if reasons else []
        return "\n".join(lines)

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write decathlon JSON (``training``, ``validation``, ``calibration``, ``test``; class names).

        :func:`movl_monai.data.read_datalist` reads it. Paths below the file's folder are relative, others absolute: the
        file must stay on this machine. Patients are written as salted ids.
        """
        target = Path(path)
        content: dict[str, Any] = {"class_names": self.class_names}
        content |= {section: [] for section in _SECTIONS.values()}
        folder = target.parent.resolve()
        for item in self._items:
            content[_SECTIONS[item["split"]]].append(self._as_json(item, folder))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    def _as_json(self, item: Item, folder: Path) -> Item:
        entry: Item = {key: item[key] for key in ("label", "domain", "id", "frame") if key in item}
        entry |= item.get("groups", {})
        image = Path(item["image"])
        entry["image"] = image.relative_to(folder).as_posix() if image.is_relative_to(folder) else str(image)
        patient = item["patient_id"]
        if "mask" in item:
            mask = Path(item["mask"])
            entry["mask"] = mask.relative_to(folder).as_posix() if mask.is_relative_to(folder) else str(mask)
        return entry | {"patient_id": None if patient is None else self.id_map.patient_id(patient)}

    def _summary_rows(self, domain: str, split: str | None, items: list[Item]) -> list[str]:
        if self.task in ("multilabel", "regression"):
            return self._target_rows(domain, split, items)
        # images with masks have no class of their own
        named = self.class_names if items and not all("mask" in item for item in items) else []
        classes = [(name, [item for item in items if item["label"] == label]) for label, name in enumerate(named)]
        kind = "(mask)" if items and not named else "(no label)"
        classes += [(kind, [item for item in items if item["label"] is None])]
        return [
            _row(domain, split or "-", name, str(len(members)), _count_patients(members))
            for name, members in classes
            if members or name in named
        ]

    def _target_rows(self, domain: str, split: str | None, items: list[Item]) -> list[str]:
        """Return a row for the images with each finding or with the number, and for those without and unlabelled."""
        known = [item for item in items if item["label"] is not None]
        if labels_of(self.task).number:
            rows = [(self.class_names[0], known)]
        else:
            rows = [
                (name, [item for item in known if item["label"][position] == 1])
                for position, name in enumerate(self.class_names)
            ]
            rows.insert(0, ("(all)", items))
            rows.append(("(no finding)", [item for item in known if not any(item["label"])]))
        rows.append(("(no label)", [item for item in items if item["label"] is None]))
        named = self.class_names if items else ()
        return [
            _row(domain, split or "-", name, str(len(members)), _count_patients(members))
            for name, members in rows
            if members or name in named
        ]

    def part(self, items: Iterable[Item]) -> Datalist:
        """Return a list of some of the items, for selections other than splits and domains."""
        return self._with(list(items), [])

    def _with(self, items: list[Item], skipped: list[SkippedFile]) -> Datalist:
        result = Datalist(
            items,
            class_names=self.class_names,
            id_domain=self.id_domain,
            far_domains=self.far_domains,
            skipped=skipped,
            id_map=self.id_map,
            keeping=self.keeping,
            task=self.task,
            units=self.units,
        )
        result.whole = self.whole
        return result


def _count_patients(items: list[Item]) -> str:
    patients = {item["patient_id"] for item in items}
    return "unknown" if None in patients else str(len(patients))


def _row(domain: str, split: str, name: str, images: str, patients: str) -> str:
    return f"{domain:<24} {split:<11} {name:<24} {images:>8} {patients:>9}"
