"""The two runs: from a folder to a manifest with reports, and from a manifest to reports."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from movl_monai.data.columns import assign_patients_by_pattern, missing_files
from movl_monai.data.entries import Entry
from movl_monai.data.ids import IdMap
from movl_monai.data.sources import is_paired, read_source
from movl_monai.errors import DataError
from movl_monai.files import write_atomically
from movl_monai.ingest.examine import Examine, Preprocessing
from movl_monai.ingest.journal import Journal, add_files, file_key, read_files, sort_text
from movl_monai.ingest.labels import (
    check_pairs,
    find_pairs,
    labels_from,
    mark_pairs,
    pair_notes,
    pair_source,
    read_checked,
    read_with_findings,
)
from movl_monai.ingest.listing import (
    ImageRow,
    add_image,
    assign_header_patients,
    check_writable,
    give_one_spelling,
    list_images,
    make_images_table,
    person_of,
    split_images,
    write_manifest,
    write_report,
)
from movl_monai.ingest.page import choose_images, make_thumbnails, render_page, withheld
from movl_monai.ingest.quality import describe_quality
from movl_monai.ingest.volumes import place_frames

__all__ = ["Outcome", "Reading", "check_manifest", "ingest_folder", "summarize"]

_LOCAL = "local"
_LEVELS = {"leak": "LEAKAGE", "warning": "look at", "note": "note"}


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Options of reading, common to both commands.

    Args:
        preprocessing: of the model's input.
        headers_only: read no pixels: fast, but without intensities and repeated pixels.
        num_workers: processes; 0 reads in this process.
        patient_pictures: largest number of pictures of patients on the page.
        patient_pattern: regular expression with a group ``patient`` for the relative path.
        id_domain: name of the in-distribution domain.
        encoding: code page of CSV lists that are not Unicode.
        progress: show a progress bar; None shows it only on terminals.
    """

    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    headers_only: bool = False
    num_workers: int = 0
    patient_pictures: int = 0
    patient_pattern: str | None = None
    id_domain: str = "id"
    encoding: str | None = None
    progress: bool | None = None

    def settings(self, label: str | None) -> str:
        """Return everything besides the file that determines its record."""
        return json.dumps([self.preprocessing.describe(), self.headers_only, label], sort_keys=True)

    def examine(self, root: Path, ids: IdMap, label: str | None = None) -> Examine:
        """Return the reader of a file."""
        try:
            transform = None if self.headers_only else self.preprocessing.build()
        except ValueError as error:
            raise DataError(f"The preprocessing cannot be made: {error}") from error
        return Examine(
            root=root,
            salter=ids.salter,
            transform=transform,
            slice_axis=self.preprocessing.slice_axis,
            label=label,
        )


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Result of a run.

    Args:
        quality: the report, see :func:`movl_monai.ingest.quality.describe_quality`.
        read: number of files read in this run.
        known: number of files whose record of an earlier run is still valid.
        files: written files.
        notes: for the user.
        masks: whether the images have masks.
    """

    quality: dict[str, Any]
    read: int
    known: int
    files: list[Path]
    notes: list[str]
    masks: bool = False


def ingest_folder(
    folder: Path,
    *,
    out: Path,
    labels: str | None = None,
    reading: Reading = Reading(),
    split_fractions: Sequence[float] | None = (0.6, 0.2, 0.2),
    seed: int = 0,
    one_image_per_patient: bool = False,
    merge_labels: bool = False,
    mask_suffix: str = "",
    id_map: Path | None = None,
    salt: str | None = None,
    fresh: bool = False,
) -> Outcome:
    """Read every file below a folder, and write a manifest of the images with its reports.

    Beside the manifest it writes ``ingest_report.csv`` (one status per file), ``quality.html`` and ``quality.json``.
    The folder ``local``, for this machine only, holds the id map and the journal.

    Args:
        folder: of the images.
        out: file of the manifest.
        labels: ``folders``, ``masks``, the path of a CSV file, ``dicom:KEYWORD``, or None for no labels.
        reading: options of reading.
        split_fractions: of train, val and test, for splits that the labels do not give; None makes none. Without labels
            none are made.
        seed: of the split.
        one_image_per_patient: assert that every file without a patient is of a different patient.
        merge_labels: merge labels that differ only in case, blanks or width into one class.
        mask_suffix: end of the mask names, after the name of the image, such as "_mask".
        id_map: file with salt and map of the ids, default ``local/id_map.json``.
        salt: of the ids, 16 or more characters; None uses the salt of the id map, or draws one.
        fresh: discard the records of earlier runs.

    Raises:
        DataError: if the folder does not exist or has no images, labels or patients cannot be determined, or the output
            cannot be written.
    """
    if not folder.is_dir():
        kind = "is a file, not a folder" if folder.exists() else "does not exist"
        raise DataError(f"{folder.name!r} {kind}; name the folder that holds the images.")
    root, out = folder.absolute(), out.absolute()
    if out.is_dir():
        raise DataError(f"--output {out.name!r} is a folder; name the file of the manifest, such as manifest.csv.")
    check_writable(out.parent)
    notes: list[str] = []
    pairs = find_pairs(root, mask_suffix) if labels == "masks" or (labels is None and is_paired(root)) else None
    if pairs is None:
        source = labels_from(labels, root, encoding=reading.encoding, notes=notes)
    else:
        source = pair_source(pairs)
        notes += pair_notes(pairs, "ingest_report.csv")
        notes += [] if reading.headers_only else check_pairs(pairs.entries, reading.preprocessing)
    tag = labels.removeprefix("dicom:") if labels is not None and labels.startswith("dicom:") else None
    local = out.parent / _LOCAL
    id_map = (id_map or local / "id_map.json").absolute()
    ids = _id_map(id_map, salt)
    report, names = out.parent / "ingest_report.csv", ("quality.html", "quality.json")
    ours = {out, report, local, id_map, *(out.parent / name for name in names)}
    with _journal(local / "ingest_journal.sqlite", reading.settings(tag), fresh=fresh) as journal:
        total = add_files(journal, root, ids.salter, ignore=ours)
        examine = reading.examine(root, ids, tag)
        counts = read_files(journal, examine, total=total, num_workers=reading.num_workers, progress=reading.progress)
        place_frames(journal, ids.salter)
        try:
            findings = list_images(
                journal,
                source,
                ids,
                root=root,
                patient_pattern=reading.patient_pattern,
                one_image_per_patient=one_image_per_patient,
                id_domain=reading.id_domain,
            )
            if pairs is not None:
                mark_pairs(journal, pairs, ids.salter, root)
        finally:
            # also if no list can be made: the report shows the reason
            write_report(journal, report, ids, root=root)
        if merge_labels:
            give_one_spelling(journal)
        if labels is not None and split_fractions is not None:
            split_images(journal, split_fractions, seed=seed, id_domain=reading.id_domain, findings=findings)
        write_manifest(journal, out, root=root, findings=findings)
        fractions = None if split_fractions is None else list(split_fractions)
        settings = _settings(reading, labels=_named(labels), split_fractions=fractions, seed=seed)
        quality = describe_quality(journal, id_domain=reading.id_domain, settings=settings)
        files = _write_quality(journal, quality, out.parent, reading, root=root)
    ids.save()
    notes += _notes(labels, root, out, paired=pairs is not None)
    return Outcome(
        quality=quality, files=[out, report, *files], notes=notes, read=counts["read"], known=counts["known"]
    )


def check_manifest(
    manifest: Path,
    *,
    data_root: Path | None = None,
    output_dir: Path | None = None,
    reading: Reading = Reading(),
    id_map: Path | None = None,
    mask_suffix: str = "",
) -> Outcome:
    """Read the images of a manifest and look for the same problems as ``ingest_folder``.

    Args:
        manifest: CSV or JSON list, or a folder with one or with class folders, as for training.
        data_root: base folder of relative paths, default the manifest's folder.
        output_dir: folder for ``ingest_report.csv``, ``quality.html``, ``quality.json`` and the journal, from which an
            interrupted run resumes; None writes nothing.
        reading: options of reading.
        id_map: file with the salt of the ids; None draws one. Ids that the manifest has are kept.
        mask_suffix: end of the mask names in a folder of images and masks, such as "_mask".

    Raises:
        DataError: if the manifest cannot be understood, none of its files exists, or the output cannot be written.
    """
    read = partial(read_source, manifest, data_root=data_root, labelled=False, encoding=reading.encoding)
    listing = read_checked(manifest, mask_suffix) or read_with_findings(read)
    pairs = [entry for entry in listing.entries if entry.mask is not None]
    looked_at = [] if reading.headers_only else check_pairs(pairs, reading.preprocessing)
    root = (data_root or (manifest if manifest.is_dir() else manifest.parent)).absolute()
    if output_dir is not None:
        check_writable(output_dir)
        id_map = id_map or output_dir / _LOCAL / "id_map.json"
    ids = _id_map(id_map, None)
    local = None if output_dir is None else output_dir / _LOCAL / "check_journal.sqlite"
    with _journal(local, reading.settings(None)) as journal:
        for entry in listing.entries:
            key = file_key(ids.salter, entry.key)
            journal.add_path(key, _encoded(entry.key), sort_text(entry.key), None)
        for file in listing.skipped:
            if file.reason != "duplicate_row":
                key = file_key(ids.salter, file.key)
                journal.add_path(key, _encoded(file.key), sort_text(file.key), file.reason)
        (total,) = journal.db.execute("SELECT COUNT(*) FROM paths").fetchone()
        counts = read_files(
            journal,
            reading.examine(root, ids),
            total=total,
            num_workers=reading.num_workers,
            progress=reading.progress,
        )
        place_frames(journal, ids.salter)
        make_images_table(journal)
        for entry in listing.entries:
            _add_entry(journal, entry, ids, reading)
        assign_header_patients(journal)
        settings = _settings(reading)
        quality = describe_quality(journal, id_domain=reading.id_domain, settings=settings)
        files: list[Path] = []
        if output_dir is not None:
            report = output_dir / "ingest_report.csv"
            write_report(journal, report, ids, root=root)
            files = [report, *_write_quality(journal, quality, output_dir, reading, root=root)]
    ids.save()
    missing = missing_files(listing.skipped, len(listing.entries) + len(listing.skipped))
    notes = [*listing.notes, *([missing] if missing else []), *looked_at]
    notes += pair_notes(listing, "the report of --output_dir")
    return Outcome(
        quality=quality, files=files, notes=notes, masks=bool(pairs), read=counts["read"], known=counts["known"]
    )


def _add_entry(journal: Journal, entry: Entry, ids: IdMap, reading: Reading) -> None:
    """List the readable frames of a manifest's row; a missing frame becomes the file's status."""
    key = file_key(ids.salter, entry.key)
    patient, person, count = journal.db.execute(
        "SELECT patient, person, (SELECT COUNT(*) FROM frames WHERE frames.key = files.key) FROM files WHERE key = ?",
        (key,),
    ).fetchone()
    frames = journal.db.execute("SELECT frame, status FROM frames WHERE key = ?", (key,)).fetchall()
    if entry.frame is not None:
        frames = [frame for frame in frames if frame[0] == entry.frame]
        if not frames and count:
            journal.db.execute("INSERT OR REPLACE INTO statuses VALUES (?, 'bad_frame')", (key,))
    if entry.patient is None and reading.patient_pattern is not None:
        assign_patients_by_pattern([entry], reading.patient_pattern, required=False)
    for frame, status in frames:
        if status != "ok":
            continue
        shown = entry.frame if entry.frame is not None else frame if count > 1 else None
        row = ImageRow(
            key=key,
            frame=frame,
            shown=shown,
            id=entry.id or ids.add(entry.key, path=entry.path, frame=shown),
            label=entry.label,
            patient=None if entry.patient is None else ids.patient_id(entry.patient),
            header_patient=patient or None,
            person=person_of(ids, entry.patient, entry.key),
            header_person=person or None,
            split=entry.split,
            domain=entry.domain or reading.id_domain,
            mask=None,
        )
        add_image(journal, row)


def _id_map(path: Path | None, salt: str | None) -> IdMap:
    ids = IdMap(path, salt=salt)
    ids.save()  # the salt first: without it an interrupted run could not resume
    return ids


def _journal(path: Path | None, settings: str, *, fresh: bool = False) -> Journal:
    if fresh and path is not None:
        path.unlink(missing_ok=True)
    return Journal(path, settings=settings)


def _write_quality(
    journal: Journal, quality: dict[str, Any], folder: Path, reading: Reading, *, root: Path
) -> list[Path]:
    """Write quality.json and quality.html; return their paths."""
    hidden, pictures = withheld(journal), []
    if not reading.headers_only and reading.patient_pictures:
        chosen = choose_images(journal, reading.patient_pictures)
        transform = reading.preprocessing.build()
        pictures = list(make_thumbnails(chosen, transform, root=root, num_workers=reading.num_workers))
    quality["pictures"] = {"shown": [picture.id for picture in pictures], "withheld": hidden}
    page, data = folder / "quality.html", folder / "quality.json"
    write_atomically(data, (json.dumps(quality, indent=1) + "\n").encode())
    write_atomically(page, render_page(quality, pictures, withheld=hidden).encode())
    return [page, data]


def _settings(reading: Reading, **others: Any) -> dict[str, Any]:
    return {**others, "headers_only": reading.headers_only, **reading.preprocessing.describe()}


def _named(labels: str | None) -> str:
    """Return the source of the labels, without a path."""
    if labels is None:
        return "none"
    return labels if labels in ("folders", "masks") or labels.startswith("dicom:") else "CSV"


def _notes(labels: str | None, root: Path, out: Path, *, paired: bool) -> list[str]:
    notes = []
    if labels is None and paired:
        notes.append("Images and masks were paired as training pairs them; give --labels masks to have splits made.")
    elif labels is None:
        notes.append(
            "The images have no labels, and no splits were made: give --labels folders, --labels FILE.csv or --labels "
            "dicom:KEYWORD to have them."
        )
    if not root.resolve().is_relative_to(out.parent.resolve()):
        notes.append(
            "The images do not lie below the manifest's folder, so its column `path` has absolute paths: write the "
            "manifest into the folder of the images to have relative ones."
        )
    return notes


def _encoded(key: str) -> bytes:
    return key.encode("utf-8", "surrogateescape")


def summarize(outcome: Outcome) -> list[str]:
    """Return the lines of the summary."""
    quality = outcome.quality
    statuses = ", ".join(f"{status} {count}" for status, count in quality["statuses"].items())
    lines = [
        f"Files: {quality['files']} ({outcome.read} read now, {outcome.known} known and unchanged)",
        f"  {statuses}",
        f"Images: {quality['images']}, patients: {quality['patients']}, volumes: {quality['volumes']}",
    ]
    for row in quality["sets"]:
        patients = "unknown" if row["without_patient"] else row["patients"]
        where = f"{row['domain']} / {row['split'] or 'no split'} / {row['label'] or 'no label'}"
        lines.append(f"  {where}: {row['images']} images, patients: {patients}")
    for finding in quality["findings"]:
        groups = "" if finding["groups"] == finding["images"] else f" in {finding['groups']} groups"
        level, code = _LEVELS[finding["level"]], finding["code"]
        lines.append(f"{level}: {code}: {finding['images']} images{groups}. {finding['text']}")
    lines += [f"Note: {note}" for note in outcome.notes]
    lines += [f"Written: {', '.join(path.name for path in outcome.files)}"] if outcome.files else []
    return lines
