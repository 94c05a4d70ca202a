"""The file `run.json` beside a checkpoint: find it and read it; nothing of it is evaluated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from movl_monai.errors import CheckpointMismatchError, ConfigError

__all__ = ["FILES", "RECORD_FILE", "RECORD_FORMAT", "find_record", "read_record"]

RECORD_FILE = "run.json"
RECORD_FORMAT = 1
FILES = ("metadata.json", "train.json", "evaluate.json", "inference.json")
"""Config files of a bundle that a record copies."""

_AGAIN = "Copy it again from the machine of the training, or train again with the same settings."
_ENTRIES: dict[str, Any] = {
    "bundle": (str, type(None)),
    "checkpoint": str,
    "imports": list,
    "settings": dict,
    "training": dict,
}


def find_record(path: Path) -> Path:
    """Return the `run.json` of a run's folder, its folder `models`, or a checkpoint.

    Raises:
        ConfigError: if there is none; for a run from before records were kept, with the parts that its overlays must
            bring.
    """
    folder = path.parent if path.is_file() else path
    places = [folder / RECORD_FILE, folder / "models" / RECORD_FILE]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise ConfigError(_no_record(path, folder))
    return found


def read_record(path: Path) -> dict[str, Any]:
    """Read a `run.json`.

    Raises:
        ConfigError: if it is damaged or of another format.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: expected JSON, got {type(error).__name__}. {_AGAIN}") from error
    if not isinstance(record, dict) or "format" not in record:
        raise ConfigError(f"{path} is no record of a run: expected a JSON object with 'format'. {_AGAIN}")
    if record["format"] != RECORD_FORMAT:
        raise ConfigError(
            f"{path} has format {record['format']!r}, this version of movl_monai reads {RECORD_FORMAT}. Use the "
            f"version that wrote it ({(record.get('versions') or {}).get('movl_monai', 'unknown')}), or train again."
        )
    wrong = [name for name, kind in _ENTRIES.items() if not isinstance(record.get(name, ...), kind)]
    if wrong or "network_def" not in record["settings"]:
        raise ConfigError(f"{path} is damaged: {', '.join(wrong) or 'network_def'} is missing. {_AGAIN}")
    return record


def _no_record(path: Path, folder: Path) -> str:
    """Describe a missing record; for a run from before records were kept, name the parts that overlays must bring."""
    if not path.exists():
        return f"There is no run at {path}. Expected the output_dir of a training, or the `model.pt` in it."
    candidates = [path] if path.is_file() else [folder / "models/model.pt", folder / "model.pt"]
    text = f"There is no {RECORD_FILE} beside the checkpoint of {path}; training writes it when it starts."
    checkpoint = next((place for place in candidates if place.is_file()), None)
    if checkpoint is None:
        return f"{text} Expected the output_dir of a training, or the `model.pt` in it."
    from movl_monai.networks import read_facts

    try:
        facts = read_facts(checkpoint)
        parts = ", ".join(f"{name} {kind}" for name, kind in facts["parts"].items())
        was = f"was trained on the backbone {facts['backbone']['name']} with {parts}"
    except CheckpointMismatchError as error:
        return f"{text} {error}"
    return (
        f"{text} This checkpoint {was}, before records were kept or without `KeepRunRecord`: train again, or run its "
        "workflow with `movl-monai run`, the bundle's files and the overlays that give those parts."
    )
