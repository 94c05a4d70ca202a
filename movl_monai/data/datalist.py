"""The list of images that everything after it works on."""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from movl_monai.data.entries import SPLITS, SkippedFile
from movl_monai.data.ids import IdMap
from movl_monai.errors import DataError

if TYPE_CHECKING:
    from movl_monai.data.keep import Keeping

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
    """A sequence of items, one per image (or per frame of a multi-frame file).

    An item is ``{"image": absolute path, "label": int | None, "patient_id": str | None,
    "split": "train" | "val" | "calibration" | "test" | None, "domain": str, "id": salted id}``, ``"frame": int`` (from
    0) where the file has several, ``"mask": absolute path`` where the source names one, ``"groups": {column: value}``
    where columns for groups were named, and ``"case": salted id`` of the volume of a slice where masks are read.
    ``label`` is the position in ``class_names``. Where the splits of a training are kept, ``"known"`` is the split that
    the image had in it, "" for one that it did not know.
    Items are ordered by domain (the in-distribution one first), split, and natural order of the path, whatever the
    order on disk.

    Items of other domains than ``id_domain`` are for evaluation only, whatever their split.

    Args:
        items: the items.
        class_names: names of the classes, in the order of the labels.
        id_domain: name of the in-distribution domain.
        far_domains: domains of another kind of images, without labels, for OOD detection only.
        skipped: files that were found and left out, with the reason.
        id_map: salt and way back of the ids.
        keeping: the splits of a training that the items keep, None where they were made anew.

    Attributes:
        whole: the list that this one is a part of, or itself.
        wanted: splits that are evaluated, where images are still to be told by their pixels.
        fingerprints: what is in the list, by domain and split, where a report is to keep it.

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
    ) -> None:
        self._items = list(items)
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
        """Names of the domains that are only evaluated."""
        return [name for name in self.domains if name != self.id_domain]

    def select(self, split: str | Sequence[str] | None = None, domain: str | Sequence[str] | None = None) -> Datalist:
        """The items of one or several splits and domains; None is all of them."""
        splits = None if split is None else {split} if isinstance(split, str) else set(split)
        domains = None if domain is None else {domain} if isinstance(domain, str) else set(domain)

        def wanted(item_split: str | None, item_domain: str | None) -> bool:
            return (splits is None or item_split in splits) and (domains is None or item_domain in domains)

        items = [item for item in self._items if wanted(item["split"], item["domain"])]
        # a file skipped before its split was known belongs to the whole list only
        return self._with(items, [file for file in self.skipped if wanted(file.split, file.domain)])

    def for_training(self) -> Datalist:
        """The in-distribution train and val splits, with the skipped files that are of no other split or domain."""
        chosen = [
            item for item in self._items if item["domain"] == self.id_domain and item["split"] in ("train", "val")
        ]
        splits = ("train", "val", None)
        skipped = [file for file in self.skipped if file.domain in (self.id_domain, None) and file.split in splits]
        return self._with(chosen, skipped)

    def for_evaluation(
        self, splits: Sequence[str] = ("test",), *, far: bool = False, by_pixels: bool = True
    ) -> Datalist:
        """In-distribution splits and every image of the other domains, for one pass of evaluation.

        Args:
            splits: those of "train", "val", "calibration" and "test"; what is fitted after training (a temperature,
                conformal sets, OOD detectors) needs more than the test split.
            far: whether the far domains are among the others.
            by_pixels: whether images that the training did not know by their files are in the list, too, so that
                decoding tells by their pixels whether they are of these splits; see ``keeping``.

        Raises:
            DataError: if a split is unknown, or none is given.
        """
        unknown = sorted(set(splits) - set(SPLITS))
        if unknown or not splits or isinstance(splits, str):
            raise DataError(f"evaluation_splits must be a list of some of {', '.join(SPLITS)}, got {splits!r}.")
        left_out = set() if far else set(self.far_domains)

        def wanted(domain: str | None, split: str | None) -> bool:
            return split in splits if domain == self.id_domain else domain not in left_out

        # of an image whose file training did not know the pixels may tell the split
        chosen = [
            item
            for item in self._items
            if wanted(item["domain"], item["split"])
            or (by_pixels and item["split"] is None and item.get("known") == "")
        ]
        # a file skipped before its split was known may be of any
        skipped = [file for file in self.skipped if wanted(file.domain, file.split or splits[0])]
        result = self._with(chosen, skipped)
        result.wanted = tuple(splits) if by_pixels else None
        return result

    def summary(self) -> str:
        """A table of images and patients per domain, split and class; no names of files or patients."""
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
        """Write decathlon JSON (``training``, ``validation``, ``calibration``, ``test``; class names), to be read with
        :func:`movl_monai.data.read_datalist`.

        Paths are relative to the file's folder where they lie below it, else absolute: the file stays on this machine.
        Patients are written as salted ids.
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
        # where masks say what is where, no image has a class
        named = self.class_names if items and not all("mask" in item for item in items) else []
        classes = [(name, [item for item in items if item["label"] == label]) for label, name in enumerate(named)]
        kind = "(mask)" if items and not named else "(no label)"
        classes += [(kind, [item for item in items if item["label"] is None])]
        return [
            _row(domain, split or "-", name, str(len(members)), _count_patients(members))
            for name, members in classes
            if members or name in named
        ]

    def part(self, items: Iterable[Item]) -> Datalist:
        """A list of some of the items, for other choices than splits and domains."""
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
        )
        result.whole = self.whole
        return result


def _count_patients(items: list[Item]) -> str:
    patients = {item["patient_id"] for item in items}
    return "unknown" if None in patients else str(len(patients))


def _row(domain: str, split: str, name: str, images: str, patients: str) -> str:
    return f"{domain:<24} {split:<11} {name:<24} {images:>8} {patients:>9}"
