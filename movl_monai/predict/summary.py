"""Summary of a prediction: counts, reasons and flags."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from movl_monai.data.series import HARMLESS

__all__ = ["Summary", "summarize"]


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Counts of a prediction.

    Args:
        out: folder of the outputs.
        rows: rows of the tables.
        predicted: number of predicted images or cases.
        failed: number of files and cases that should have been predicted and were not.
        reasons: number of unpredicted files per reason, including harmless reasons.
        outside: number flagged as out-of-distribution; None if unknown.
        abstained: number of abstentions; None if unknown.
        resumed: number of rows from an earlier run.
        not_written: number of outputs that could not be written, by output and reason.
        flags: number of images and cases per flag.
    """

    out: Path
    rows: list[dict[str, Any]]
    predicted: int
    failed: int
    reasons: dict[str, int]
    outside: int | None
    abstained: int | None
    resumed: int = 0
    not_written: dict[str, int] = field(default_factory=dict)
    flags: dict[str, int] = field(default_factory=dict)

    def text(self) -> str:
        """Return a few lines for people to read."""
        lines = [f"Predicted {self.predicted}" + (f", {self.resumed} of them earlier" if self.resumed else "") + "."]
        if self.outside is not None:
            lines.append(f"{self.outside} are outside of what this model was trained on.")
        if self.abstained is not None:
            lines.append(f"For {self.abstained} the model abstains.")
        if self.reasons:
            listed = ", ".join(f"{reason} {count}" for reason, count in self.reasons.items())
            lines.append(f"Not predicted: {listed}.")
        if self.flags:
            lines.append(f"Flagged: {', '.join(f'{flag} {count}' for flag, count in self.flags.items())}.")
        if self.not_written:
            listed = ", ".join(f"{what} {count}" for what, count in self.not_written.items())
            lines.append(f"Not written: {listed}.")
        return "\n".join([*lines, f"Outputs: {self.out}"])


def summarize(rows: list[dict[str, Any]], *, out: Path, resumed: int) -> Summary:
    """Count the rows of a prediction."""
    done = [row for row in rows if row["status"] == "ok"]
    others = [row["reason"] for row in rows if row["status"] != "ok"]

    def count(name: str) -> int | None:
        values = [row.get(name) for row in done if row.get(name) is not None]
        return sum(map(bool, values)) if values else None

    return Summary(
        out=out,
        rows=rows,
        predicted=len(done),
        failed=sum(reason not in HARMLESS for reason in others),
        reasons=dict(Counter(others).most_common()),
        outside=count("outside"),
        abstained=count("abstain"),
        resumed=resumed,
        not_written=dict(Counter(what for row in done for what in row.get("not_written", ())).most_common()),
        flags=dict(Counter(flag for row in done for flag in row.get("flags", ())).most_common()),
    )
