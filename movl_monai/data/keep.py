"""Give the images of a data set their splits in training, before any pixel is read."""

from __future__ import annotations

import csv
import io
import logging
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from movl_monai.data.entries import SPLITS, Entry
from movl_monai.data.kept_splits import LEARNED, KeptSplits, digest_files, read_kept_splits
from movl_monai.data.spelling import patient_key
from movl_monai.errors import DataError, LeakageError
from movl_monai.files import write_atomically

__all__ = [
    "COPY",
    "Keeping",
    "Leak",
    "NewImages",
    "leakage_error",
    "learned_items",
    "open_keeping",
    "told_by_file",
]

logger = logging.getLogger(__name__)

NewImages = Literal["test"] | None
COPY = "copy"
"""Mark of an image that is in the data set twice, but was in training once."""


@dataclass(frozen=True, kw_only=True)
class Leak:
    """Image on its way into test that the network learned from, or whose patient it learned from.

    Args:
        path: of the image, for a file that stays on this machine.
        found: trace by which it was found.
        domain: domain in which it would be scored.
    """

    path: str
    found: Literal["file", "patient", "pixels", "look"]
    domain: str


@dataclass(kw_only=True)
class Keeping:
    """Splits of a training, applied to one reading of a data set.

    Each row of the kept splits belongs to at most one image of the data set; further images are copies.

    Args:
        kept: the splits.
        new_images: split of images that were not part of the training, if the list names none.
        allow_patient_overlap: accept (and log) test images of patients that the network learned from.

    Attributes:
        claimed: rows found in the data set.
    """

    kept: KeptSplits
    new_images: NewImages = None
    allow_patient_overlap: bool = False
    claimed: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        if self.new_images not in (None, "test"):
            raise DataError(f"new_images must be test, or none to leave them out, got {self.new_images!r}.")

    def inside(self, entries: Sequence[Entry]) -> list[Leak]:
        """Set the splits of in-distribution images in place; return the leaks into test.

        An image of the training keeps its split. A new image is test if the list says so, or if the list names no split
        and ``new_images`` is "test"; else it is in no split.
        """
        digests = digest_files(entry.path for entry in entries)
        codes = {path: self.kept.content_code(digest) for path, digest in digests.items()}
        given = [entry.split for entry in entries]
        for entry in self._named_first(entries, codes):
            row = self._claim(self.kept.by_file.get(codes[entry.path], ()), entry)
            entry.known = "" if row is None else COPY if row < 0 else self.kept.images[row].split or ""
        leaks = [leak for entry in entries if (leak := self._settle(entry, codes)) is not None]
        patients = self._learned_patients(entries)
        leaks += self._of_patients([entry for entry in entries if entry.known == "" and entry.split], patients)
        self._log(entries, given)
        return leaks

    def outside(self, entries: Sequence[Entry], *, inside: Sequence[Entry] = ()) -> list[Leak]:
        """Return the images of other (test) domains that the network learned from, directly or by their patient."""
        digests = digest_files(entry.path for entry in entries)
        leaks = []
        for entry in entries:
            entry.known = ""
            rows = self.kept.by_file.get(self.kept.content_code(digests[entry.path]), ())
            if any(self.kept.images[row].split in LEARNED for row in rows):
                leaks.append(Leak(path=str(entry.path), found="file", domain=entry.domain or ""))
        found = {leak.path for leak in leaks}
        rest = [entry for entry in entries if str(entry.path) not in found]
        return leaks + self._of_patients(rest, self._learned_patients(inside))

    def claim(self, rows: Sequence[int]) -> int | None:
        """Claim the first free row; return None if every row belongs to an image."""
        row = next((row for row in rows if row not in self.claimed), None)
        if row is not None:
            self.claimed.add(row)
        return row

    def _named_first(self, entries: Sequence[Entry], codes: dict[Path, str]) -> list[Entry]:
        """Return the entries; among equal files those with their path in training come first, the others are copies."""
        places = Counter((codes[entry.path], entry.frame) for entry in entries)
        several = {code for (code, _), count in places.items() if count > 1}
        several |= {
            code for code, rows in self.kept.by_file.items() if len({self.kept.images[r].image for r in rows}) > 1
        }
        alike = [entry for entry in entries if codes[entry.path] in several]
        self.kept.slow_codes("image", (entry.key for entry in alike))
        named = {id(e) for e in alike if self.kept.image_code(e.key) in self.kept.by_image}
        return sorted(entries, key=lambda entry: id(entry) not in named)

    def _claim(self, rows: Sequence[int], entry: Entry) -> int | None:
        """Return the row of an image; None if its file was not in training, -1 if other images claim all its rows."""
        if not rows:
            return None
        frame = "" if entry.frame is None else str(entry.frame)
        fitting = [row for row in rows if self.kept.images[row].frame == frame]
        if len({self.kept.images[row].image for row in fitting}) > 1:
            code = self.kept.image_code(entry.key)
            fitting.sort(key=lambda row: self.kept.images[row].image != code)
        found = self.claim(fitting)
        return -1 if found is None else found

    def _settle(self, entry: Entry, codes: dict[Path, str]) -> Leak | None:
        """Determine the split of one image; return a leak if it is to be test although the network learned from it."""
        wanted = entry.split or self.new_images
        if entry.known in SPLITS:
            learned = entry.known in LEARNED and entry.split == "test"
            entry.split = entry.known
        elif entry.known == COPY:
            rows = self.kept.by_file[codes[entry.path]]
            learned = wanted == "test" and any(self.kept.images[row].split in LEARNED for row in rows)
            entry.split = None
        else:
            learned, entry.split = False, "test" if wanted == "test" else None
        return Leak(path=str(entry.path), found="file", domain=entry.domain or "") if learned else None

    def _learned_patients(self, entries: Sequence[Entry]) -> set[str]:
        """Return the patients, in the list's present spelling, whose images the network learned from."""
        return {patient_key(str(entry.patient)) for entry in entries if entry.known in LEARNED and is_patient(entry)}

    def _of_patients(self, entries: Sequence[Entry], spelled: set[str]) -> list[Leak]:
        named = [entry for entry in entries if is_patient(entry)]
        self.kept.slow_codes("patient", (patient_key(str(entry.patient)) for entry in named))
        leaks = [
            Leak(path=str(entry.path), found="patient", domain=entry.domain or "")
            for entry in named
            if patient_key(str(entry.patient)) in spelled
            or self.kept.patient_code(str(entry.patient)) in self.kept.learned_patients
        ]
        if leaks and self.allow_patient_overlap:
            logger.warning(
                "%d test images have the patient ids of patients that the network learned from; "
                "allow_patient_overlap takes them for other people. If they are not, the figures are too good.",
                len(leaks),
            )
            return []
        return leaks

    def _log(self, entries: Sequence[Entry], given: Sequence[str | None]) -> None:
        counts = Counter(entry.known for entry in entries)
        known = ", ".join(f"{split} {counts[split]}" for split in SPLITS if counts[split])
        missing = len(self.kept.images) - len(self.claimed)
        logger.info(
            "Splits kept as training made them: %s%s.",
            known or "none of its images is here",
            f"; {missing} images of the training are not here" if missing else "",
        )
        moved = sum(
            split is not None and entry.known in SPLITS and split != entry.known
            for entry, split in zip(entries, given, strict=True)
        )
        if moved:
            logger.warning("%d images are in another split in the list than in training; training's counts.", moved)
        if counts[""]:
            scored = sum(entry.known == "" and entry.split == "test" for entry in entries)
            logger.warning(
                "%d images are new: training did not know their files. %d of them are test, the others in no split%s.",
                counts[""],
                scored,
                "" if self.new_images or scored == counts[""] else "; `--new_images test` makes them test",
            )
        if counts[COPY]:
            logger.warning("%d images are copies of others that training knew, and in no split.", counts[COPY])


def open_keeping(
    path: str | os.PathLike[str] | None, *, new_images: NewImages = None, allow_patient_overlap: bool = False
) -> Keeping | None:
    """Return the kept splits of a training; None without a path, or if the training kept none, which is logged.

    Raises:
        DataError: if the run has a file of splits that is missing, or if it is damaged.
    """
    kept = None if path is None else read_kept_splits(path)
    if path is not None and kept is None and any(Path(path).parent.glob("*.pt")):
        logger.warning(
            "The splits of this training were not kept (an earlier version made it), so they are made again, and it "
            "cannot be checked that no image that the network learned from is scored as test."
        )
    options = {"new_images": new_images, "allow_patient_overlap": allow_patient_overlap}
    return None if kept is None else Keeping(kept=kept, **options)  # type: ignore[arg-type]


def told_by_file(kept: KeptSplits, items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return copies of items with ``known``: their split in a training other than the one that is kept, "" for none."""
    digests = digest_files(Path(item["image"]) for item in items)
    told = []
    for item in items:
        splits = {
            kept.images[row].split for row in kept.by_file.get(kept.content_code(digests[Path(item["image"])]), ())
        }
        learned = next((split for split in LEARNED if split in splits), None)
        told.append({**item, "known": learned or ("test" if "test" in splits else "")})
    return told


def learned_items(kept: KeptSplits, items: Sequence[Mapping[str, Any]]) -> list[Leak]:
    """Return scored images from :func:`told_by_file` that a training learned from, directly or by their patient."""
    new = [item for item in items if item["known"] == "" and item.get("patient_id")]
    kept.slow_codes("patient", (patient_key(str(item["patient_id"])) for item in new))
    patients = {item["id"] for item in new if kept.patient_code(str(item["patient_id"])) in kept.learned_patients}
    leaks: list[Leak] = []
    for item in items:
        if item["known"] in LEARNED or item["id"] in patients:
            found: Literal["file", "patient"] = "file" if item["known"] in LEARNED else "patient"
            leaks.append(Leak(path=str(item["image"]), found=found, domain=str(item["domain"])))
    return leaks


def is_patient(entry: Entry) -> bool:
    """Return True if the patient of an entry is known, and not a stand-in for its file."""
    return bool(entry.patient) and entry.patient != f"file:{entry.key}"


def leakage_error(leaks: Sequence[Leak], local: Path | None = None, *, run: str = "") -> LeakageError:
    """Return the error for leaks.

    Args:
        leaks: one or more.
        local: folder that stays on this machine, for the list of their paths; None writes none.
        run: name of the run that learned from them, if there are several.
    """
    kinds = {"file": "by file", "patient": "by patient", "pixels": "by pixels", "look": "by look (re-encoded)"}
    counts = Counter(kinds[leak.found] for leak in leaks)
    found = ", ".join(f"{counts[kind]} {kind}" for kind in kinds.values() if counts[kind])
    domains = Counter(leak.domain for leak in leaks)
    places = ", ".join(f"{name} {count}" for name, count in sorted(domains.items()))
    listed = "" if local is None else f" They are listed in {_list(leaks, local)}, on this machine only."
    of_run = f" of the run '{run}'" if run else ""
    patients = any(leak.found == "patient" for leak in leaks)
    overlap = (
        " If equal patient ids are of other people, as in data of another hospital, say so with "
        "`--allow_patient_overlap true`."
        if patients
        else ""
    )
    return LeakageError(
        f"LEAKAGE: {len(leaks)} images would be scored as test, although the network{of_run} learned from them or from "
        f"their patients in train, val or calibration. Found {found}; domains: {places}.{listed} Figures on them would "
        "be too good. Take them out of the data set, or give them the split that they had in training; leave the "
        f"column `split` empty to have every image keep it.{overlap}"
    )


def _list(leaks: Iterable[Leak], local: Path) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["path", "found_by", "domain"])
    writer.writerows([leak.path, leak.found, leak.domain] for leak in leaks)
    path = local / "leakage.csv"
    write_atomically(path, stream.getvalue().encode("utf-8", "surrogateescape"))
    path.chmod(0o600)
    return f"{local.name}/{path.name}"
