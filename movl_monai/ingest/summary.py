"""Summary of a run on the terminal; only salted ids and counts."""

from __future__ import annotations

from movl_monai.ingest.run import Outcome

__all__ = ["summarize"]

_LEVELS = {"leak": "LEAKAGE", "warning": "look at", "note": "note"}


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
