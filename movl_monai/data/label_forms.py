"""Form of the labels in a list: classes, several findings in columns or in text, or a number."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from movl_monai.data.columns import is_absent
from movl_monai.data.targets import check_task, labels_of
from movl_monai.errors import ConfigError

__all__ = [
    "CLASSES",
    "LabelForm",
    "Uncertain",
    "finding_value",
    "label_form",
    "label_text",
    "number_value",
]

Uncertain = Literal["ignore", "positive", "negative"]
_FINDING_WORDS = {"1": 1, "1.0": 1, "true": 1, "0": 0, "0.0": 0, "false": 0, "-1": -1, "-1.0": -1}
_UNCERTAIN_VALUES: dict[str, int | None] = {"ignore": None, "positive": 1, "negative": 0}
_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)(e[+-]?\d+)?", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class LabelForm:
    """Form of the labels in a list.

    Args:
        task: kind of the labels.
        columns: columns of the findings, or the column of the number; () for the column ``label``.
        separator: text between the findings of one image in the column ``label``.
        no_finding: name of images without a finding; "" for none.
        uncertain: meaning of -1 in a column of a finding.
        known: findings of a trained network, whose columns are looked up.
    """

    task: str = "classification"
    columns: tuple[str, ...] = ()
    separator: str = "|"
    no_finding: str = "No Finding"
    uncertain: Uncertain = "ignore"
    known: tuple[str, ...] = ()

    @property
    def is_class(self) -> bool:
        """True if a label is one class."""
        return not (self.is_number or self.has_findings)

    @property
    def is_number(self) -> bool:
        """True if a label is a number."""
        return labels_of(self.task).number

    @property
    def has_findings(self) -> bool:
        """True if a label is several findings."""
        return labels_of(self.task).several


CLASSES = LabelForm()
"""Form of labels that are classes."""


def label_form(
    task: str,
    *,
    columns: Sequence[str] = (),
    separator: str = "|",
    no_finding: str = "No Finding",
    uncertain: str = "ignore",
    known: Sequence[str] | None = None,
) -> LabelForm:
    """Check the settings of labels.

    Raises:
        ConfigError: for an unknown task or word, an empty separator, or columns that do not fit the task.
    """
    name = check_task(task)
    if isinstance(columns, str):
        raise ConfigError(f"label_columns must be a list of columns, got the text {columns!r}; write ['{columns}'].")
    names = tuple(str(column).strip() for column in columns)
    if len({column.lower() for column in names}) != len(names) or "" in names:
        raise ConfigError(f"label_columns must be different, non-empty names, got {list(names)}.")
    if names and name in ("classification", "ordinal"):
        raise ConfigError(
            f"label_columns are for the tasks multilabel and regression, got {list(names)} with task {name!r}. Call "
            "the column of the classes 'label', or add the overlay task_multilabel.json or task_regression.json."
        )
    if name == "regression" and len(names) > 1:
        raise ConfigError(f"label_columns of a regression must be one column of numbers, got {list(names)}.")
    if name == "multilabel" and len(names) == 1:
        raise ConfigError(
            f"label_columns must be two or more findings, got {list(names)}. For one finding write its classes into "
            "the column `label` and take the task classification."
        )
    if not separator.strip():
        raise ConfigError(f"label_separator must be a sign between findings, such as '|', got {separator!r}.")
    if uncertain not in _UNCERTAIN_VALUES:
        raise ConfigError(f"uncertain must be one of {', '.join(_UNCERTAIN_VALUES)}, got {uncertain!r}.")
    return LabelForm(
        task=name,
        columns=names,
        separator=separator.strip(),
        no_finding=no_finding.strip(),
        uncertain=uncertain,  # type: ignore[arg-type]
        known=tuple(known or ()),
    )


def finding_value(text: str, uncertain: str = "ignore") -> int | None:
    """Return 1, 0, or None (unknown) for a cell of a finding.

    Raises:
        ValueError: for another value than 1, 0, -1, true, false, or nothing.

    Example:
        >>> [finding_value(text) for text in ("1.0", "False", "", "-1")], finding_value("-1", "positive")
        ([1, 0, None, None], 1)
    """
    word = text.strip().lower()
    if not word or is_absent(word):
        return None
    if word not in _FINDING_WORDS:
        raise ValueError(f"must be 1, 0, -1 (uncertain) or empty, got {text.strip()!r}")
    value = _FINDING_WORDS[word]
    return _UNCERTAIN_VALUES[uncertain] if value < 0 else value


def number_value(text: str) -> float | None:
    """Return a number, with a point or a comma before its decimals; None for nothing, nan and NA.

    Raises:
        ValueError: for text, or a number that is not finite.

    Example:
        >>> number_value("3,5"), number_value("-1e-3"), number_value("NaN")
        (3.5, -0.001, None)
    """
    word = text.strip()
    if not word or is_absent(word):
        return None
    value = float(word.replace(",", ".")) if _NUMBER.fullmatch(word) else math.inf
    if not math.isfinite(value):
        raise ValueError(f"must be a finite number, or empty, got {word!r}")
    return value


def label_text(label: Any, class_names: Sequence[str]) -> str:
    """Return the label of an item as text: its class, its findings, or its number; "" if unknown.

    Example:
        >>> label_text((1, 0, 1), ["Edema", "Mass", "Nodule"]), label_text((0, None), ["Edema", "Mass"])
        ('Edema|Nodule', 'none')
        >>> label_text(1, ["no", "yes"]), label_text(2.5, ["age"])
        ('yes', '2.5')
    """
    if label is None:
        return ""
    if isinstance(label, tuple):
        return "|".join(name for name, value in zip(class_names, label, strict=True) if value) or "none"
    if isinstance(label, float):
        return f"{label:g}"
    return class_names[label] if label < len(class_names) else str(label)
