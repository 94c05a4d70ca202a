"""Verdicts as Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from .judge import Verdict
from .truth import Truth

__all__ = ["RULE", "format_results"]

RULE = """\
**The rule.** A file is *right* if what was read is what dcmtk renders; where dcmtk renders nothing, or not all of it
(JPEG 2000, 32-bit big-endian, float, 32-bit colour, frames with a rescaling of their own), what pydicom's decoded
values and the standard's formulas give; for the synthetic files, what was written. Our reader must give the displayed
image, within 1/255 (2/255 where dcmtk calculates in whole numbers: YBR colour, and rescaled values that are not
whole), with padding black. MONAI's readers give values without a window, so for each frame any scale and offset that
keeps black below white is right (within 2/255 of the range beside dcmtk's 8 bits, else 0.1 %), as is any order of
axes that MONAI documents; a window or VOI LUT is not asked of them, and padding kept as an intensity is counted
apart. *Wrong* is everything else that is given without an exception: inverted, palette indices as grey, a Modality
LUT ignored, frames exchanged with rows, other values, and images of masks, of damaged files and of files without one.
*Crashed*: the process ended, or took longer than its limit. Of files with more than five frames the first, second,
middle and last are judged. MONAI's readers are called as `LoadImage(reader=...)`, which goes on to the others where
that one raises."""


def format_results(results: Mapping[str, Mapping[str, Sequence[tuple[Truth, Verdict]]]]) -> str:
    """Format the verdicts.

    Args:
        results: file set -> reader -> truth and verdict, for every file.

    Returns:
        A table and, below, the kinds of wrong results; ends without a line break.
    """
    header = (
        "file set", "files", "of these images", "reader", "images right", "wrong", "images refused",
        "others refused", "crashed", "padding kept", "refused by reason",
    )  # fmt: skip
    rows = [header, ("---",) * len(header)]
    rows += [_row(name, reader, pairs) for name, readers in results.items() for reader, pairs in readers.items()]
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    wrong, crashed = _details(results, "wrong"), _details(results, "crashed")
    parts = [table, "How they are wrong:\n\n" + wrong if wrong else "None is wrong."]
    return "\n\n".join([*parts, *(["How they crashed:\n\n" + crashed] if crashed else [])])


def _details(results: Mapping[str, Mapping[str, Sequence[tuple[Truth, Verdict]]]], outcome: str) -> str:
    lines = [
        f"- {name}, {reader}: {_counted(verdict.detail for _, verdict in pairs if verdict.outcome == outcome)}"
        for name, readers in results.items()
        for reader, pairs in readers.items()
        if any(verdict.outcome == outcome for _, verdict in pairs)
    ]
    return "\n".join(lines)


def _row(name: str, reader: str, pairs: Sequence[tuple[Truth, Verdict]]) -> tuple[str, ...]:
    is_image = [truth.kind == "image" for truth, _ in pairs]
    outcomes = Counter((verdict.outcome, image) for (_, verdict), image in zip(pairs, is_image, strict=True))
    return (
        name,
        str(len(pairs)),
        str(sum(is_image)),
        reader,
        str(outcomes["right", True]),
        str(outcomes["wrong", True] + outcomes["wrong", False]),
        str(outcomes["refused", True]),
        str(outcomes["refused", False]),
        str(outcomes["crashed", True] + outcomes["crashed", False]),
        str(sum(verdict.keeps_padding for _, verdict in pairs)),
        _counted(verdict.detail for _, verdict in pairs if verdict.outcome == "refused"),
    )


def _counted(words: object) -> str:
    counts = Counter(words)  # type: ignore[call-overload]
    return ", ".join(f"{word} {count}" for word, count in counts.most_common())
