"""Protection of reports on other data from being replaced."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections import defaultdict
from pathlib import Path
from typing import Any

from movl_monai.data import Datalist
from movl_monai.data.kept_splits import digest_files
from movl_monai.errors import ConfigError
from movl_monai.files import EVALUATED_FILE
from movl_monai.runs.output_dir import free_folder

__all__ = ["check_evaluation"]

_LOGGER = logging.getLogger(__name__)


def check_evaluation(datalist: Datalist, folder: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Refuse a folder with the report of other data; record the data of the new report in the list.

    Data are equal if the same images, under any names, are in the same splits; domains may be added. A report of an
    earlier version does not record its data, which is logged.

    Args:
        datalist: the complete data set, with its domains.
        folder: of the evaluation.
        overwrite: whether to replace a report of other data.

    Raises:
        ConfigError: if the folder has a report of other data that must not be replaced.
    """
    path, now = Path(folder), _fingerprints(datalist)
    datalist.fingerprints = now
    there = _read(path / EVALUATED_FILE)
    if (path / "report.json").is_file() and not overwrite:
        if there is None:
            _LOGGER.warning(
                "%s holds a report of an earlier version, which does not say of which data; it is replaced.", path.name
            )
        differing = [name for name, part in (there or {}).items() if now.get(name) != part]
        # images that are only in the new report are other data, too, unless they are of a new domain
        domains = {_domain(name) for name in there or {}}
        differing += [name for name in now if there is not None and name not in there and _domain(name) in domains]
        if differing:
            raise _other_data(path, there or {}, now, sorted(differing))


def _fingerprints(datalist: Datalist) -> dict[str, Any]:
    """Return the number of images and the SHA-256 of their bytes for each domain and split."""
    parts: dict[str, list[str]] = defaultdict(list)
    items = [item for item in datalist if item["split"] is not None]
    digests = digest_files(Path(item["image"]) for item in items)
    for item in items:
        parts[f"{item['domain']}/{item['split']}"].append(f"{digests[Path(item['image'])]} {item.get('frame', '')}")
    return {
        name: {"images": len(part), "sha256": hashlib.sha256("\n".join(sorted(part)).encode()).hexdigest()}
        for name, part in sorted(parts.items())
    }


def _domain(name: str) -> str:
    return name.rpartition("/")[0]


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return dict(content["images"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _other_data(path: Path, there: dict[str, Any], now: dict[str, Any], names: list[str]) -> ConfigError:
    def size(part: dict[str, Any] | None) -> str:
        return "none" if part is None else str(part["images"])

    shown = ", ".join(f"{name}: {size(there.get(name))} images there, {size(now.get(name))} now" for name in names[:4])
    return ConfigError(
        f"{path.name} holds the report of other data ({shown}; equal numbers are other images), which this evaluation "
        f"would replace. Choose another folder, e.g. `--output_evaluation {free_folder(path)}`, or replace the report "
        "by `--overwrite true`."
    )
