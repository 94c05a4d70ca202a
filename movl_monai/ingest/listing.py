"""List of images from the journal, and its two CSV files: the manifest per image, the report per file."""

from __future__ import annotations

import csv
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from movl_monai.data.columns import assign_patients_by_pattern
from movl_monai.data.entries import Entry, SplitName
from movl_monai.data.ids import IdMap
from movl_monai.data.label_forms import finding_value
from movl_monai.data.spelling import label_groups, patient_key, preferred_label
from movl_monai.data.splits import complete_splits
from movl_monai.errors import DataError
from movl_monai.ingest.journal import Journal
from movl_monai.ingest.labels import LabelSource

__all__ = [
    "ImageRow",
    "REPORT_COLUMNS",
    "add_image",
    "assign_header_patients",
    "check_writable",
    "give_one_spelling",
    "label_counts",
    "list_images",
    "make_images_table",
    "person_of",
    "split_images",
    "write_manifest",
    "write_report",
]

_IMAGES = """
SELECT placed.key, placed.frame, paths.path, files.patient, files.person, files.label,
    (SELECT COUNT(*) FROM frames WHERE frames.key = placed.key) AS count
FROM placed JOIN files USING (key) JOIN paths USING (key)
ORDER BY placed.sort, placed.volume, placed."order", placed.key, placed.frame
"""
_MOST_LABELS = 100
Cells = Mapping[str, Mapping[str, str]]
"""Cells of the columns of findings, by path below the root and finding."""

_MANIFEST = """
SELECT paths.path, images.label AS label, images.patient AS patient_id, split, domain, shown AS frame, id, mask,
    modality, view, laterality, study, series, placed.volume, placed."order" AS slice, placed.place AS slice_position,
    folder
FROM images JOIN files USING (key) JOIN paths USING (key) JOIN placed USING (key, frame)
ORDER BY placed.sort, placed.volume, placed."order", images.key, images.frame
"""
REPORT_COLUMNS = (
    *("status", "detail", "format", "modality", "view", "laterality", "sop_class", "transfer_syntax", "photometric"),
    *("bits", "rows", "columns", "burned_in", "secondary_capture", "localizer", "flags", "patient", "study", "series"),
)
_REPORT = f"""
SELECT paths.path, COALESCE(statuses.status, files.status) AS status, {", ".join(REPORT_COLUMNS[1:])},
    (SELECT COUNT(*) FROM frames WHERE frames.key = files.key) AS frames,
    (SELECT COUNT(*) FROM images WHERE images.key = files.key) AS images
FROM paths JOIN files USING (key) LEFT JOIN statuses USING (key) ORDER BY paths.sort, paths.key
"""


@dataclass(frozen=True, kw_only=True)
class ImageRow:
    """Row of the table ``images``; ``frame`` is the frame read, ``shown`` the frame in the manifest.

    ``folder`` is the folder of a series that the manifest lists as one volume. Patients are salted; ``person`` and
    ``header_person`` without spelling differences.
    """

    key: str
    frame: int
    shown: int | None
    id: str
    label: str | None
    patient: str | None
    header_patient: str | None
    split: str | None
    domain: str
    mask: str | None
    person: str | None = None
    header_person: str | None = None
    folder: str | None = None


_LISTED = """
CREATE TEMP VIEW listed AS
SELECT images.key, frame, id, images.label, images.patient, images.spelling, split, domain, format, modality, view,
    kind, intent, laterality, sop_class, transfer_syntax, photometric, bits, rows, columns, burned_in,
    secondary_capture, shows_names, instance,
    series, pixels, mean, deviation, exposure, files.flags, row_spacing, column_spacing
FROM images JOIN files USING (key) JOIN frames USING (key, frame)
"""


def make_images_table(journal: Journal) -> None:
    """Make the table ``images``, and ``statuses`` of readable files outside of the list.

    The view ``listed`` joins the images with their journal records.
    """
    journal.db.execute(
        "CREATE TEMP TABLE images (key TEXT, frame INT, shown INT, id TEXT, label TEXT, patient TEXT, "
        "header_patient TEXT, split TEXT, domain TEXT, mask TEXT, person TEXT, header_person TEXT, spelling TEXT, "
        "folder TEXT, "
        "PRIMARY KEY (key, frame)) WITHOUT ROWID"
    )
    journal.db.execute("CREATE TEMP TABLE statuses (key TEXT PRIMARY KEY, status TEXT) WITHOUT ROWID")
    journal.db.execute(_LISTED)


def add_image(journal: Journal, row: ImageRow) -> None:
    """Add an image to the list."""
    values = (
        *(row.key, row.frame, row.shown, row.id, row.label, row.patient),
        *(row.header_patient, row.split, row.domain, row.mask, row.person, row.header_person, row.patient),
        row.folder,
    )
    journal.db.execute(f"INSERT OR REPLACE INTO images VALUES ({', '.join('?' * len(values))})", values)


def list_images(
    journal: Journal,
    source: LabelSource,
    ids: IdMap,
    *,
    root: Path,
    patient_pattern: str | None = None,
    one_image_per_patient: bool = False,
    id_domain: str = "id",
) -> Cells:
    """Fill the table ``images`` from the readable frames.

    Args:
        journal: with the table ``placed``.
        source: of the labels.
        ids: id map.
        root: the folder of the images.
        patient_pattern: regular expression with a group ``patient`` for the relative path.
        one_image_per_patient: assert that every file without a patient is of a different patient.
        id_domain: domain of images without one.

    Returns:
        the cells of the findings by path, {} for images with classes.

    Raises:
        DataError: if no image remains, the pattern does not match, or a tag has too many values for classes.
    """
    make_images_table(journal)
    unmatched = 0
    labels: set[str] = set()
    findings: dict[str, Mapping[str, str]] = {}
    for key, frame, path, header_patient, header_person, tag, count in journal.db.execute(_IMAGES):
        name = os.fsdecode(path)
        found = source(name, frame, tag)
        if isinstance(found, str):
            journal.db.execute("INSERT OR IGNORE INTO statuses VALUES (?, ?)", (key, found))
            continue
        domain = found.domain or id_domain
        patient = found.patient
        if patient is None and patient_pattern is not None:
            entry = Entry(path=root, key=name)
            assign_patients_by_pattern([entry], patient_pattern, required=False)
            patient = entry.patient
            unmatched += patient is None and domain == id_domain
        if patient is None and one_image_per_patient:
            patient = f"file:{found.key}"
        labels |= {found.label} if found.label and not found.groups else set()
        findings |= {name: found.groups} if found.groups else {}
        shown = frame if count > 1 else None
        row = ImageRow(
            key=key,
            frame=frame,
            shown=shown,
            id=ids.add(name, path=root / name, frame=shown),
            label=found.label,
            patient=None if patient is None else ids.patient_id(patient),
            header_patient=header_patient or None,
            person=person_of(ids, patient, found.key),
            folder=None if found.key == name else found.key,
            header_person=header_person or None,
            split=found.split,
            domain=domain,
            mask=None if found.mask is None else str(found.mask),
        )
        add_image(journal, row)
    _check(journal, unmatched, patient_pattern, len(labels))
    # a file with one listed frame is in the list
    journal.db.execute("DELETE FROM statuses WHERE key IN (SELECT key FROM images)")
    assign_header_patients(journal)
    return findings


def _check(journal: Journal, unmatched: int, pattern: str | None, labels: int) -> None:
    (images,) = journal.db.execute("SELECT COUNT(*) FROM images").fetchone()
    if not images:
        counts = journal.db.execute(
            "SELECT COALESCE(statuses.status, files.status) AS reason, COUNT(*) FROM files LEFT JOIN statuses "
            "USING (key) GROUP BY reason ORDER BY 2 DESC"
        ).fetchall()
        found = ", ".join(f"{reason} {count}" for reason, count in counts[:8])
        raise DataError(f"No image was found ({found}); name the folder of the images, and check how labels are given.")
    if unmatched:
        raise DataError(
            f"--patient_pattern {pattern!r} finds no patient in {unmatched} of {images} images (in the path relative "
            "to the folder, with forward slashes); widen it, or name the patients in a CSV."
        )
    if labels > _MOST_LABELS and 2 * labels > images:
        raise DataError(
            f"The labels have {labels} different values in {images} images, as identifiers have and classes do not; "
            "choose another source of labels."
        )


def assign_header_patients(journal: Journal) -> None:
    """Use the patients of the headers for images without a patient in the list.

    A domain whose files all have the same patient, as after some de-identifications, is excluded. Patients whose ids
    differ only in spelling become one; ``spelling`` keeps the original id.
    """
    journal.db.execute(
        "UPDATE images SET patient = header_patient, person = header_person, spelling = header_patient "
        "WHERE patient IS NULL AND domain IN (SELECT domain FROM images "
        "WHERE patient IS NULL GROUP BY domain "
        "HAVING COUNT(DISTINCT key) = 1 OR COUNT(DISTINCT COALESCE(header_patient, '')) > 1)"
    )
    journal.db.execute(
        "CREATE TEMP TABLE people AS SELECT person, MIN(patient) AS patient FROM images WHERE person IS NOT NULL "
        "GROUP BY person HAVING COUNT(DISTINCT patient) > 1"
    )
    journal.db.execute(
        "UPDATE images SET patient = (SELECT patient FROM people WHERE people.person = images.person) "
        "WHERE person IN (SELECT person FROM people)"
    )


def person_of(ids: IdMap, patient: str | None, path: str) -> str | None:
    """Return the salted patient without spelling differences; None for a stand-in for a file."""
    return None if patient in (None, f"file:{path}") else ids.salter.short("person", patient_key(str(patient)))


def label_counts(journal: Journal) -> dict[str, int]:
    """Return the number of images of each label, in all domains."""
    query = "SELECT label, COUNT(*) FROM images WHERE label IS NOT NULL GROUP BY 1"
    return dict(journal.db.execute(query).fetchall())


def give_one_spelling(journal: Journal) -> None:
    """Give labels that differ only in case, blanks or width their most frequent spelling."""
    counts = label_counts(journal)
    for group in label_groups(counts):
        into = preferred_label(group, counts)
        journal.db.executemany("UPDATE images SET label = ? WHERE label = ?", [(into, label) for label in group])


def split_images(
    journal: Journal, fractions: Sequence[float], *, seed: int, id_domain: str, findings: Cells | None = None
) -> None:
    """Make missing splits, by patient, in the in-distribution domain; equal folders get equal splits.

    Args:
        journal: with the table ``images``.
        fractions: of train, val and test.
        seed: of the split.
        id_domain: name of the in-distribution domain.
        findings: result of :func:`list_images`.

    Raises:
        DataError: if patients are unknown, or no split has every class.
    """
    rows = journal.db.execute(
        "SELECT images.key, frame, label, patient, split, paths.path FROM images JOIN paths USING (key) "
        "WHERE domain = ? ORDER BY paths.sort, images.key, frame",
        (id_domain,),
    ).fetchall()
    # codes of patients hold the folder's salt, the order of their files does not
    codes = dict.fromkeys(patient for _, _, _, patient, _, _ in rows if patient is not None)
    place = {patient: f"{number:09d}" for number, patient in enumerate(codes)}
    nowhere = Path()
    counts = label_counts(journal)
    # labels that differ only in spelling are split as one class
    one = {label: preferred_label(group, counts) for group in label_groups(counts) for label in group}
    masks = journal.db.execute("SELECT COUNT(mask) FROM images").fetchone()[0] and not counts
    entries = [
        Entry(
            path=nowhere,
            key="",
            label="image" if masks else one.get(label, label),
            patient=place.get(patient),
            split=split,
            target=tuple(finding_value(cell) for cell in cells.values()) if cells else None,
        )
        for _, _, label, patient, split, path in rows
        for cells in [(findings or {}).get(os.fsdecode(path))]
    ]
    try:
        complete_splits(entries, fractions=fractions, seed=seed)
    except DataError as error:
        raise DataError(
            f"{error} On the command line: --labels CSV with a column patient_id, --patient_pattern, "
            "--one_image_per_patient, or --split_fractions none. What was read is kept for the next run."
        ) from error
    splits: list[tuple[SplitName | None, str, int]] = [
        (entry.split, row[0], row[1]) for entry, row in zip(entries, rows, strict=True)
    ]
    journal.db.executemany("UPDATE images SET split = ? WHERE key = ? AND frame = ?", splits)


def check_writable(folder: Path) -> None:
    """Make a folder and check that it is writable, before anything long begins.

    Raises:
        DataError: if it is not.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise DataError(
            f"Nothing can be written to the folder {folder.name!r} ({error.strerror}); choose another place "
            "for the output."
        ) from None


def write_manifest(journal: Journal, path: Path, *, root: Path, findings: Cells | None = None) -> None:
    """Write the manifest, which :func:`movl_monai.data.read_datalist` reads.

    Paths below the manifest's folder are relative to it, others absolute. Findings have a column each, and no column
    ``label``.

    Args:
        journal: with the tables ``images`` and ``placed``.
        path: of the manifest.
        root: the folder of the images.
        findings: result of :func:`list_images`.
    """
    folder = path.parent.resolve()
    cells = findings or {}
    columns = list(next(iter(cells.values()), ()))
    cursor = journal.db.execute(_MANIFEST)
    names = [column[0] for column in cursor.description]
    (masks,) = journal.db.execute("SELECT COUNT(mask) FROM images").fetchone()
    dropped = {"folder", *([] if masks else ["mask"]), *(["label"] if columns else [])}
    folders: set[str] = set()

    def rows() -> Iterator[list[Any]]:
        for values in cursor:
            row = dict(zip(names, values, strict=True))
            if row["folder"] in folders:
                continue
            found = cells.get(os.fsdecode(row["path"]), {})
            if row["folder"]:  # a series with one mask is one volume, whose slices are counted in training
                folders.add(row["folder"])
                row |= {"path": os.fsencode(row["folder"]), "id": None, "slice": None, "slice_position": None}
            row["path"] = _shown(root / os.fsdecode(row["path"]), folder)
            row["mask"] = _shown(Path(row["mask"]), folder) if row["mask"] else None
            yield [value for name, value in row.items() if name not in dropped] + [found.get(name) for name in columns]

    _write(path, [*(name for name in names if name not in dropped), *columns], rows())


def write_report(journal: Journal, path: Path, ids: IdMap, *, root: Path) -> None:
    """Write the report: salted id, status and technical facts of every file, without names or paths."""
    cursor = journal.db.execute(_REPORT)
    names = [column[0] for column in cursor.description[1:]]

    def rows() -> Iterator[list[Any]]:
        for name, *values in cursor:
            key = os.fsdecode(name)
            yield [ids.add(key, path=root / key), *values]

    _write(path, ["id", *names], rows())


def _shown(path: Path, folder: Path) -> str:
    """Return a path relative to a folder if it is below it, also through links; else the absolute path."""
    for candidate in (path, Path(os.path.realpath(path.parent), path.name)):
        if candidate.is_relative_to(folder):
            return candidate.relative_to(folder).as_posix()
    return str(path)


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a CSV row by row beside its destination, and move it there when it is complete."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(header)
            writer.writerows(["" if value is None else value for value in row] for row in rows)
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise DataError(f"{path.name} cannot be written ({error.strerror}); choose another place.") from None
