"""Labels of each task: as values of an item, and as one tensor of a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from movl_monai.errors import ConfigError, DataError

if TYPE_CHECKING:
    import torch

__all__ = ["LABELS", "Labels", "check_task", "label_tensor", "labels_of"]


class Labels:
    """One class for each image: an integer, -1 if unknown.

    Attributes:
        dtype: of a tensor of labels, as torch names it.
        several: True for several findings, each with a logit of its own.
        number: True for a number, of which no classes are known.
        ordered: True for grades.
    """

    dtype: ClassVar[str] = "int64"
    several: ClassVar[bool] = False
    number: ClassVar[bool] = False
    ordered: ClassVar[bool] = False

    def check_names(self, names: Sequence[str]) -> None:
        """Check the names of the classes that a data set has.

        Raises:
            DataError: if they do not suit the task.
        """

    def unknown(self, class_names: Sequence[str]) -> Any:
        """Return the label of an image without one."""
        return -1

    def value(self, label: Any) -> Any:
        """Return a known label of an item as numbers."""
        return int(label)

    def tensor(self, values: Sequence[Any], class_names: Sequence[str]) -> torch.Tensor:
        """Return N labels as a tensor: (N,), or (N, K) of K findings."""
        import torch  # lists are read without it

        return torch.tensor(values, dtype=getattr(torch, self.dtype))


class GradeLabels(Labels):
    """One grade for each image: its place among consecutive whole numbers, -1 if unknown."""

    ordered = True

    def check_names(self, names: Sequence[str]) -> None:
        """Refuse names that are not consecutive whole numbers.

        Example:
            >>> GradeLabels().check_names(["1", "2", "3"])
        """
        grades = [int(name) if name.strip().isdecimal() else None for name in names]
        known = [grade for grade in grades if grade is not None]
        if len(known) < len(grades) or len(set(known)) < len(known):
            raise DataError(
                f"The task ordinal needs grades, classes that are whole numbers (0, 1, 2, ...), got "
                f"{', '.join(names)}. Name the classes by their grade, or leave the task out for classes without an "
                "order."
            )
        missing = sorted(set(range(min(known), max(known) + 1)) - set(known))
        if missing:
            several = len(missing) > 1
            raise DataError(
                f"Grade{'s' if several else ''} {', '.join(map(str, missing))} of {min(known)} to {max(known)} "
                f"{'have' if several else 'has'} no image, so that errors across the gap would count too little. Add "
                f"images of {'them' if several else 'it'}, number the classes without the gap, or set label_order to "
                "'ordinal' without the task, for which any growing numbers are classes."
            )


class FindingLabels(Labels):
    """Several findings for each image: 1, 0, or NaN if unknown, for each of K findings; None in an item is NaN."""

    dtype = "float32"
    several = True

    def unknown(self, class_names: Sequence[str]) -> Any:
        """Return K times NaN."""
        return [float("nan")] * len(class_names)

    def value(self, label: Any) -> Any:
        """Return a list of floats."""
        return [float("nan") if value is None else float(value) for value in label]

    def tensor(self, values: Sequence[Any], class_names: Sequence[str]) -> torch.Tensor:
        """Return N labels as a tensor (N, K)."""
        return super().tensor(values, class_names).reshape(len(values), len(class_names))


class NumberLabels(Labels):
    """A number for each image, NaN if unknown."""

    dtype = "float32"
    number = True

    def unknown(self, class_names: Sequence[str]) -> Any:
        """Return NaN."""
        return float("nan")

    def value(self, label: Any) -> Any:
        """Return a float."""
        return float(label)


LABELS: dict[str, Labels] = {
    "classification": Labels(),
    "ordinal": GradeLabels(),
    "multilabel": FindingLabels(),
    "regression": NumberLabels(),
}
"""Labels by the name of their task, for tasks whose labels are of whole images."""


def check_task(name: str) -> str:
    """Return the name of a task whose labels are of whole images.

    Raises:
        ConfigError: for another one.
    """
    if name not in LABELS:
        raise ConfigError(f"task must be one of {', '.join(LABELS)}, got {name!r}.")
    return name


def labels_of(task: str) -> Labels:
    """Return the labels of a task; those of masks have none, which count as classes."""
    return LABELS.get(task, LABELS["classification"])


def label_tensor(items: Sequence[Mapping[str, Any]], task: str, class_names: Sequence[str]) -> torch.Tensor:
    """Return the labels of N items as a tensor.

    Example:
        >>> label_tensor([{"label": 1}, {"label": None}], "classification", ["no", "yes"])
        tensor([ 1, -1])
        >>> label_tensor([{"label": (1, None)}], "multilabel", ["Effusion", "Mass"])
        tensor([[1., nan]])
    """
    labels = labels_of(task)
    found = [item["label"] for item in items]
    missing = labels.unknown(class_names)
    return labels.tensor([missing if one is None else labels.value(one) for one in found], class_names)
