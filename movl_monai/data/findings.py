"""Several findings of one image: their columns or their names in one column, and one label from them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from movl_monai.data.entries import Entry, check_class_names, natural_sorted, tidy
from movl_monai.data.label_forms import LabelForm, finding_value
from movl_monai.data.spelling import label_key, merged_spellings
from movl_monai.errors import DataError

__all__ = ["finding_columns", "read_cells", "settle_findings", "split_names"]

logger = logging.getLogger(__name__)
_MANY = 20  # different names, from which on they may be names of images
_SHOWN = 5


def finding_columns(rows: Sequence[Mapping[str, str]], columns: Iterable[str]) -> list[str]:
    """Return the columns that hold only 1, 0, -1, true, false and blanks, a 1 among them.

    Args:
        rows: values by column.
        columns: columns to look at.

    Example:
        >>> finding_columns([{"Mass": "1", "Edema": "", "age": "61"}, {"Mass": "0", "Edema": "1.0", "age": "1"}],
        ...                 ["Mass", "Edema", "age"])
        ['Mass', 'Edema']
    """
    return [column for column in columns if column and _is_finding([row.get(column, "") for row in rows])]


def _is_finding(values: Sequence[str]) -> bool:
    try:
        return 1 in {finding_value(value, "positive") for value in values}
    except ValueError:
        return False


def read_cells(cells: Mapping[str, str], form: LabelForm, where: str) -> dict[str, int | None]:
    """Return the findings of a row with a column for each.

    A 1 in the column of :attr:`LabelForm.no_finding` makes blank cells 0. That column is no finding, unless
    ``form.columns`` names it.

    Args:
        cells: text by finding.
        form: of the labels.
        where: the row, for messages.

    Raises:
        DataError: for a cell that is not 1, 0, -1, true, false or blank.
    """
    found: dict[str, int | None] = {}
    blank: int | None = None
    for name, text in cells.items():
        try:
            value = finding_value(text, form.uncertain)
        except ValueError as error:
            raise DataError(f"{where}: the finding {name!r} {error}.") from None
        if is_no_finding(name, form):
            blank = 0 if value == 1 else None
        else:
            found[name] = value
    uncertain = [name for name, text in cells.items() if text.strip().startswith("-")]
    return {name: blank if value is None and name not in uncertain else value for name, value in found.items()}


def is_no_finding(name: str, form: LabelForm) -> bool:
    """Return True for the name of images without a finding."""
    return bool(form.no_finding) and name not in form.columns and label_key(name) == label_key(form.no_finding)


def split_names(text: str | Sequence[str], form: LabelForm, where: str) -> dict[str, int | None]:
    """Return the findings that a label names, each with the value 1; {} for no finding.

    Raises:
        DataError: if the label names findings and says that there is none.

    Example:
        >>> form = LabelForm(task="multilabel")
        >>> split_names("Mass | Edema", form, "row 2"), split_names("No Finding", form, "row 3")
        ({'Mass': 1, 'Edema': 1}, {})
    """
    parts = text.split(form.separator) if isinstance(text, str) else text
    names = [name for part in parts if (name := tidy(part))]
    findings = [name for name in names if not is_no_finding(name, form)]
    if findings and len(findings) < len(names):
        raise DataError(
            f"{where}: the label says {form.no_finding!r} and names findings, got {form.separator.join(names)!r}; keep "
            "one of both."
        )
    return dict.fromkeys(findings, 1)


def settle_findings(
    entries: Sequence[Entry],
    known: Sequence[str] | None,
    *,
    inside: Sequence[Entry] | None = None,
    trained: bool = False,
    merge: bool = False,
) -> list[str]:
    """Set the label of each entry to a tuple of 1, 0 and None, in place, and return the names of the findings.

    Args:
        entries: with ``findings``.
        known: names in their order, of columns or of a trained network; None takes those of ``inside``.
        inside: entries of the in-distribution domain; None for another source, whose further findings are ignored.
        trained: whether the names are those of a trained network: further findings are ignored, missing ones unknown.
        merge: whether names that differ only in case, blanks or width are merged.

    Raises:
        DataError: for fewer than two findings, names for single images, a name that is not known, spellings of one
            finding, or a finding whose labels are all unknown.
    """
    counts = Counter(name for entry in entries for name, value in (entry.findings or {}).items() if value)
    apart = trained or inside is None
    merged, names = merged_spellings(counts, known, merge=merge, apart=apart)
    for entry in entries if merged else ():
        entry.findings = _joined(entry.findings, merged)
    if names is None:
        names = natural_sorted(name for entry in inside or () for name in entry.findings or ())
        _check_names(names, sum(bool(entry.findings) for entry in inside or ()))
    if not (trained or inside is None):
        names = check_class_names(names)
    _check_known(counts, {merged.get(name, name) for name in counts}, names, ignore=apart)
    for entry in entries:
        values = None if entry.findings is None else [entry.findings.get(name, entry.others) for name in names]
        entry.target = None if values is None or all(value is None for value in values) else tuple(values)
    if inside is not None and not trained:
        _check_labelled(inside, names)
    return names


def _joined(findings: Mapping[str, int | None] | None, merged: Mapping[str, str]) -> dict[str, int | None] | None:
    """Return the findings with merged names; one with several values is positive if one of them is."""
    if findings is None:
        return None
    joined: dict[str, int | None] = {}
    for name, value in findings.items():
        into = merged.get(name, name)
        known = [one for one in (joined.get(into), value) if one is not None]
        joined[into] = max(known) if known else None
    return joined


def _check_names(names: Sequence[str], labelled: int) -> None:
    if len(names) < 2:
        raise DataError(
            f"The task multilabel needs two or more findings, got {len(names)}: {', '.join(names) or 'no labels'}. "
            "Separate the findings of an image in the column `label` by label_separator, or name the columns of the "
            "findings in label_columns; for one finding take the task classification."
        )
    if len(names) >= _MANY and 2 * len(names) > labelled:
        raise DataError(
            f"{labelled} images with findings have {len(names)} different ones, but a finding needs several images. "
            "Expected the names of findings in the column `label`, not names of images."
        )


def _check_known(counts: Mapping[str, int], found: set[str], names: Sequence[str], *, ignore: bool) -> None:
    unknown = natural_sorted(found - set(names))
    if not unknown:
        return
    shown = ", ".join(f"{name!r} ({counts.get(name, 0)} images)" for name in unknown[:_SHOWN])
    if not ignore or found.isdisjoint(names):
        raise DataError(
            f"The finding {shown} is not one of the findings {', '.join(names)}; rename it (case counts), or remove it."
        )
    logger.warning("Findings that are not among %s are ignored: %s.", ", ".join(names), shown)


def _check_labelled(entries: Sequence[Entry], names: Sequence[str]) -> None:
    blank = [
        name
        for position, name in enumerate(names)
        if all(entry.target is None or entry.target[position] is None for entry in entries)
    ]
    if blank:
        raise DataError(
            f"All labels of the finding {', '.join(map(repr, blank[:_SHOWN]))} are unknown (blank, or -1 with "
            "uncertain 'ignore'); fill its column, or leave it out of label_columns."
        )
