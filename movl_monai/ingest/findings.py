"""Find problems for training or its figures: leakage, contradictions, mixtures, incomplete volumes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from movl_monai.data.columns import joined_labels
from movl_monai.data.spelling import label_groups
from movl_monai.ingest.journal import Journal
from movl_monai.ingest.listing import label_counts
from movl_monai.ingest.volumes import FLAGS

__all__ = ["Finding", "find_problems"]

Level = Literal["leak", "warning", "note"]

_EXAMPLES, _IDS = 5, 8
_LOW_CONTRAST = 12.75  # standard deviation of the 256 grey levels; radiographs and slices have 25 to 90
_SHOULD_BE_ONE = {"modality": "mixed_modalities", "view": "mixed_views", "format": "mixed_formats"} | {
    "kind": "mixed_kinds",
    "intent": "mixed_intents",
}
_WHY_NOT_MIXED = {
    "kind": " Localizers, mosaics, projections, reformatted, subtracted and other derived images, and maps of computed "
    "values, show something else than primary images.",
    "intent": " Images FOR PROCESSING are raw: their grey levels are not those of images FOR PRESENTATION.",
}
# the in-distribution domain has one place per split; each other domain is one place
_PLACE = "CASE domain WHEN :id THEN 'split ' || split ELSE 'domain ' || domain END"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Finding for the user.

    Args:
        code: one word.
        level: "leak" invalidates figures, "warning" needs attention, "note" is information.
        text: description and remedy.
        images: number of images (or files) concerned.
        groups: number of groups of related images, such as patients.
        examples: a few groups of salted ids.
    """

    code: str
    level: Level
    text: str
    images: int
    groups: int
    examples: list[list[str]]

    def describe(self) -> dict[str, Any]:
        """Return the finding as a dictionary for JSON."""
        return asdict(self)


# code, level, grouping column, condition on rows, condition on groups, text
_GROUPED: tuple[tuple[str, Level, str, str, str, str], ...] = (
    (
        *("patient_in_two_splits", "leak", "patient", "domain = :id AND split IS NOT NULL"),
        "COUNT(DISTINCT split) > 1",
        "Patients with images in more than one split: figures on val and test would be too good. Move each patient to "
        "one split, or leave the splits out to have them made by patient.",
    ),
    (
        *("patient_spellings", "warning", "patient", "TRUE", "COUNT(DISTINCT spelling) > 1"),
        "Patients written in more than one way (zeros in front as in 7 and 007, decimals, case, blanks). Each is taken "
        "as one patient. Write them alike, or rename those that are different people.",
    ),
    (
        *("pixels_in_two_splits", "leak", "pixels", "pixels != ''"),
        f"COUNT(DISTINCT {_PLACE}) > 1 AND SUM(domain = :id) > 0",
        "The same pixels in more than one split, or inside and outside of the in-distribution domain. Keep one copy.",
    ),
    (
        *("pixels_under_two_labels", "warning", "pixels", "pixels != ''", "COUNT(DISTINCT label) > 1"),
        "The same pixels under different labels: one of the labels is wrong, or the image shows both.",
    ),
    (
        *("pixels_of_two_patients", "warning", "pixels", "pixels != ''", "COUNT(DISTINCT patient) > 1"),
        "The same pixels under different patients: one of the patients is wrong, and a split by patient would leak.",
    ),
    (
        *("repeated_instance", "warning", "instance", "instance != ''", "COUNT(DISTINCT key) > 1"),
        "Different files with one SOPInstanceUID, which should be unique: copies, or converted twice.",
    ),
    (
        *("repeated_pixels", "note", "pixels", "pixels != ''", "COUNT(*) > 1"),
        "The same pixels more than once.",
    ),
    (
        *("patient_under_two_labels", "note", "patient", "TRUE", "COUNT(DISTINCT label) > 1"),
        "Patients with images of more than one label; as it should be for labels of slices, not for diagnoses.",
    ),
)
_RANGES = (
    "A window or a depth may not fit the values; the flags in ingest_report.csv may name the cause. Correct the files, "
    "or choose the range: --voi full, --dicom_range percentile, --value_range LOW,HIGH."
)


def _has(column: str, word: str) -> str:
    """Return the SQL condition that a column of words separated by blanks contains a word."""
    return f"' ' || {column} || ' ' LIKE '% {word} %'"


# code, level, condition on rows, text
_SINGLE: tuple[tuple[str, Level, str, str], ...] = (
    (
        *("patient_unknown", "warning", "patient IS NULL"),
        "Images whose patient is not known (not in the list; PatientID absent, empty or the same everywhere): it "
        "cannot be checked that no patient is in two splits.",
    ),
    (
        *("burned_in", "warning", "burned_in = 'YES'"),
        "BurnedInAnnotation says that text is part of the pixels: names may be readable, and a network may read sides "
        "and devices.",
    ),
    (
        *("secondary_capture", "warning", "secondary_capture = 1"),
        "Secondary captures: photographs of screens or films, scans, exports; often annotated, never in a unit.",
    ),
    (
        *("mosaic", "warning", "kind = 'mosaic'"),
        "Mosaics: pictures of many slices side by side, as some MR scanners store them. Take them apart into slices.",
    ),
    (
        *("no_series_uid", "warning", "format = 'dicom' AND series = ''"),
        "DICOM images without SeriesInstanceUID: which of them are slices of one volume cannot be told, and no DICOM "
        "object can refer to them. Export them again, or give the files of each volume a folder of their own.",
    ),
    (
        *("blank", "warning", "pixels = '' AND mean IS NOT NULL"),
        "Images of one value after windowing: nothing to see in them.",
    ),
    (
        *("nearly_black", "warning", _has("exposure", "nearly_black")),
        f"Images that the network sees nearly black: 99 % of their pixels are darker than a fifth of white. {_RANGES}",
    ),
    (
        *("nearly_white", "warning", _has("exposure", "nearly_white")),
        f"Images that the network sees nearly white: 99 % of their pixels are lighter than four fifths. {_RANGES}",
    ),
    (
        *("few_levels", "warning", _has("exposure", "few_levels")),
        f"Images that the network sees in fewer than 32 of 256 grey levels. {_RANGES}",
    ),
    (
        *("low_contrast", "warning", f"exposure = '' AND deviation > 0 AND deviation < {_LOW_CONTRAST}"),
        f"Images that the network sees with little contrast: their grey levels deviate by less than a twentieth of "
        f"white. {_RANGES}",
    ),
    (
        *("implausible_hu", "warning", _has("flags", "implausible_hu")),
        "CT images with values that no tissue has: negative ones may have been stored as large positive ones. Export "
        "them again with PixelRepresentation 1, or leave them out.",
    ),
    (
        *("window_in_stored_units", "warning", _has("flags", "window_in_stored_units")),
        "DICOM files whose window fits the stored values and not the rescaled ones, which it is defined for. Pass it "
        "over with --voi full.",
    ),
    (
        *("wrong_lut_depth", "note", _has("flags", "wrong_lut_depth")),
        "DICOM files with a lookup table of another depth than it states. The depth of its entries was taken.",
    ),
)


def find_problems(journal: Journal, *, id_domain: str) -> list[Finding]:
    """Return the findings, the worst first.

    Args:
        journal: with the table ``images`` and, for grouped volumes, ``placed`` and ``volumes``.
        id_domain: name of the in-distribution domain.
    """
    found = [_grouped(journal, id_domain, *query) for query in _GROUPED]
    found += [_single(journal, *query) for query in _SINGLE]
    found += [_label_spellings(journal, group) for group in label_groups(label_counts(journal))]
    found.append(_several_labels(journal))
    found += [_mixed(journal, id_domain, column) for column in _SHOULD_BE_ONE]
    found += [_shortcut(journal, id_domain, column) for column in _SHOULD_BE_ONE]
    found += [_volumes(journal, flag) for flag in FLAGS]
    order: Sequence[Level] = ("leak", "warning", "note")
    return sorted((one for one in found if one is not None), key=lambda one: order.index(one.level))


def _grouped(
    journal: Journal, id_domain: str, code: str, level: Level, column: str, rows: str, groups: str, text: str
) -> Finding | None:
    query = (
        f"SELECT {column}, COUNT(*) AS n FROM listed WHERE {column} IS NOT NULL AND {rows} GROUP BY 1 HAVING {groups}"
    )
    values = {"id": id_domain}
    count, images = journal.db.execute(f"SELECT COUNT(*), SUM(n) FROM ({query})", values).fetchone()
    if not count:
        return None
    examples = [
        _ids(journal, f"{column} = :value AND {rows}", values | {"value": name})
        for name, _ in journal.db.execute(f"{query} ORDER BY 1 LIMIT {_EXAMPLES}", values).fetchall()
    ]
    return Finding(code=code, level=level, text=text, images=images, groups=count, examples=examples)


def _single(journal: Journal, code: str, level: Level, rows: str, text: str) -> Finding | None:
    (count,) = journal.db.execute(f"SELECT COUNT(*) FROM listed WHERE {rows}").fetchone()
    if not count:
        return None
    return Finding(code=code, level=level, text=text, images=count, groups=count, examples=[_ids(journal, rows, {})])


def _ids(journal: Journal, rows: str, values: dict[str, Any]) -> list[str]:
    query = f"SELECT id FROM listed WHERE {rows} ORDER BY id LIMIT {_IDS}"
    return [row[0] for row in journal.db.execute(query, values)]


def _several_labels(journal: Journal) -> Finding | None:
    """Return the finding for labels that join several."""
    counts = label_counts(journal)
    joined = joined_labels(counts)
    if not joined:
        return None
    shown = ", ".join(repr(label) for label in joined[:_EXAMPLES]) + (", ..." if len(joined) > _EXAMPLES else "")
    return Finding(
        code="several_labels",
        level="note",
        text=f"Labels of several findings per image: {shown}. The task multilabel takes them; for classes "
        "choose a column with one label each.",
        images=sum(counts[label] for label in joined),
        groups=len(joined),
        examples=[_ids(journal, "label = :value", {"value": label}) for label in joined[:_EXAMPLES]],
    )


def _label_spellings(journal: Journal, group: Sequence[str]) -> Finding:
    """Return the finding for labels that differ only in case, blanks or width."""
    counts = label_counts(journal)
    listed = ", ".join(f"{label!r} {counts[label]}" for label in group)
    return Finding(
        code="label_spellings",
        level="warning",
        text=f"Labels that are equal but for case, blanks or width: {listed}. Training refuses them until they "
        "have one spelling, or other names; `movl-monai ingest` gives them one with --merge_labels.",
        images=sum(counts[label] for label in group),
        groups=len(group),
        examples=[_ids(journal, "label = :value", {"value": label}) for label in group[:_EXAMPLES]],
    )


def _mixed(journal: Journal, id_domain: str, column: str) -> Finding | None:
    """Return the finding for several modalities, views or formats among the in-distribution images."""
    counts = journal.db.execute(
        f"SELECT {column}, COUNT(*) FROM listed WHERE domain = ? AND {column} != '' GROUP BY 1 ORDER BY 2 DESC, 1",
        (id_domain,),
    ).fetchall()
    if len(counts) < 2:
        return None
    listed = ", ".join(f"{value} {count}" for value, count in counts)
    why = _WHY_NOT_MIXED.get(column, "")
    examples = [_ids(journal, f"{column} = :value", {"value": value}) for value, _ in counts[1 : _EXAMPLES + 1]]
    return Finding(
        code=_SHOULD_BE_ONE[column],
        level="warning",
        text=f"Images of more than one {column} in one data set: {listed}. Train on one, or know why not.{why}",
        images=sum(count for _, count in counts),
        groups=len(counts),
        examples=examples,
    )


def _shortcut(journal: Journal, id_domain: str, column: str) -> Finding | None:
    """Return the finding for a modality, view or format that determines the label."""
    pairs = journal.db.execute(
        f"SELECT {column}, label, COUNT(*) FROM listed WHERE domain = ? AND label IS NOT NULL GROUP BY 1, 2",
        (id_domain,),
    ).fetchall()
    values, labels = {value for value, _, _ in pairs}, {label for _, label, _ in pairs}
    if len(labels) < 2 or len(values) < 2 or len(pairs) > len(values):
        return None
    return Finding(
        code=f"{column}_tells_label",
        level="warning",
        text=f"The {column} alone tells the label: a network may learn the device instead of the finding.",
        images=sum(count for _, _, count in pairs),
        groups=len(values),
        examples=[],
    )


def _volumes(journal: Journal, flag: str) -> Finding | None:
    rows = "' ' || volumes.flags || ' ' LIKE '% ' || ? || ' %'"
    listed = "volumes JOIN placed USING (volume) JOIN images USING (key, frame)"
    count, images = journal.db.execute(
        f"SELECT COUNT(DISTINCT volume), COUNT(*) FROM {listed} WHERE {rows}", (flag,)
    ).fetchone()
    if not count:
        return None
    names = journal.db.execute(
        f"SELECT DISTINCT volume FROM {listed} WHERE {rows} ORDER BY 1 LIMIT {_IDS}", (flag,)
    ).fetchall()
    return Finding(
        code=f"volume_{flag}",
        level="note" if flag == "localizer" else "warning",
        text=f"Volumes: {FLAGS[flag]}.",
        images=images,
        groups=count,
        examples=[[name for (name,) in names]],
    )
