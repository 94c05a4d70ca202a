"""Record beside a checkpoint for rebuilding its network: the settings of the training, in their config form."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ignite.engine import Engine, Events
from monai.bundle import ConfigParser, ConfigWorkflow

from movl_monai.data.kept_splits import SPLITS_FILE
from movl_monai.data.make_splits import make_kept_splits
from movl_monai.errors import ConfigError
from movl_monai.files import to_json, write_atomically
from movl_monai.runs.overlays import CONFIG_FILES
from movl_monai.runs.overrides import ENTRY_IDS, find_caller, reachable
from movl_monai.runs.provenance import run_info
from movl_monai.runs.record_file import FILES, RECORD_FILE, RECORD_FORMAT
from movl_monai.runs.verbatim import as_written

if TYPE_CHECKING:
    from movl_monai.data import Datalist, ImageDataset

__all__ = [
    "CONFIG_ROOT",
    "KeepRunRecord",
    "find_again",
    "make_record",
    "note_start",
]

_LOGGER = logging.getLogger(__name__)

_START = "kept_start"
# folder of a config that no workflow read; MONAI ignores ids that start with "_"
CONFIG_ROOT = "_config_root_"

# ids of one run on one machine, or defined by each workflow for itself
_OF_ONE_RUN = {
    *("train", "validate", "network", "checkpoint", "resume", "overwrite", "device", "num_workers", "batch_size"),
    *("class_names", "prepare_processes"),
    *("id_map", "datalist", "images", "dataset", "dataloader", "handlers", "evaluator"),
}
_WEIGHTS_SUFFIXES = {".safetensors", ".pt", ".pth", ".bin"}


class KeepRunRecord:
    """Write `run.json` and `splits.csv` beside the checkpoint when training starts. Attach it before validation.

    The config comes from the parser that builds this handler: raw, with expressions, merged with overlays and
    overrides. It is not written before training starts, so that a run that fails in reading its data leaves the
    checkpoint and record of the previous run unchanged.

    Args:
        path: the checkpoint; record and splits are written into its folder.
        datalist: the images of the training, whose whole list holds the splits; None keeps none.
        images: the decoded train and val images; images of other splits are decoded only for their codes.

    Raises:
        ConfigError: if the handler is not built from a bundle config.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        datalist: Datalist | None = None,
        images: ImageDataset | None = None,
    ) -> None:
        self.path = Path(path)
        self.datalist, self.images = datalist, images
        parser, workflow = find_caller(ConfigParser), find_caller(ConfigWorkflow)
        if parser is None:
            raise ConfigError("KeepRunRecord must be built from a bundle config, as an entry of `train#handlers`.")
        config = as_written(parser.get())
        root = config.get(CONFIG_ROOT) if workflow is None else workflow.config_root_path
        self.record = make_record(config, config_root=None if root is None else Path(root), checkpoint=self.path.name)

    def attach(self, engine: Engine) -> None:
        """Write at the engine's start."""
        engine.add_event_handler(Events.STARTED, lambda trainer: self.write(resumed=trainer.state.epoch > 0))

    def write(self, *, resumed: bool = False) -> None:
        """Write the splits and the record now, each atomically.

        Args:
            resumed: keep the checkpoint's entries of the record, because the checkpoint stays until a better one is
                found.
        """
        record = dict(self.record)
        if self.datalist is not None and self.images is not None:
            content = make_kept_splits(self.datalist, self.images).write()
            write_atomically(self.path.with_name(SPLITS_FILE), content)
            record["splits_sha256"] = hashlib.sha256(content).hexdigest()
        place = self.path.with_name(RECORD_FILE)
        if resumed and (start := _read(place).get(_START)):
            record[_START] = start
        write_atomically(place, to_json(record).encode())


def note_start(checkpoint: Path, start: str | None) -> None:
    """Record beside a checkpoint whether it holds the start of training; without a record do nothing.

    Args:
        checkpoint: the file.
        start: "untrained" or "solved" (the head, exactly, before the first step); None for an epoch's state.
    """
    place = checkpoint.with_name(RECORD_FILE)
    record = _read(place)
    if record and record.get(_START) != start:
        rest = {name: value for name, value in record.items() if name != _START}
        write_atomically(place, to_json(rest | ({} if start is None else {_START: start})).encode())


def _read(place: Path) -> dict[str, Any]:
    """Return a record; empty if it is missing or unreadable."""
    try:
        record = json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def make_record(config: Mapping[str, Any], *, config_root: Path | None, checkpoint: str) -> dict[str, Any]:
    """Collect the information for rebuilding a run.

    Args:
        config: the merged raw config of a training.
        config_root: the folder of its files; None if it is not known.
        checkpoint: file name of the checkpoint, without folder.

    Returns:
        A dictionary for JSON: ``format``, ``bundle`` (name of its folder), ``bundle_version``, ``versions``,
        ``git_commit``, ``git_modified``, ``checkpoint``; ``overlays`` (names of the config files other than the
        bundle's own; None if unknown); ``imports`` (statements of the config); ``settings``: raw top-level ids on which
        ``network_def``, the preprocessing and the inferer depend, with the preprocessing as ``preprocessing``;
        ``training``: the other raw ids, such as the split and the strategy, without folders and ids of a single run;
        ``files``: the contents of the bundle's own files; ``files_sha256``: SHA-256 of these files and of the overlays
        beside them, by name. The only named folder is that of a weights file.
    """
    files = _read_files(config_root)
    info = run_info()
    settings, overlays = _settings(config), _overlays(config)
    return {
        "format": RECORD_FORMAT,
        "bundle": None if config_root is None else config_root.resolve().parent.name,
        "bundle_version": (config.get("_meta_") or files.get("metadata.json", {})).get("version"),
        **{name: info[name] for name in ("versions", "git_commit", "git_modified")},
        "checkpoint": checkpoint,
        "overlays": overlays,
        "imports": config.get("imports", []),
        "settings": settings,
        "training": _training(config, settings),
        "files": files,
        "files_sha256": _hash_files(config_root, [*FILES, *(overlays or [])]),
    }


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    own = {name: value for name, value in config.items() if not _is_of_one_run(name)}
    preprocessing = config.get("train", {}).get("preprocessing")
    if preprocessing is not None:
        own["preprocessing"] = preprocessing
    names = reachable(own, ("network_def", "preprocessing", "image_inferer"))
    settings = {name: find_again(value) for name, value in own.items() if name in names}
    for name, value in settings.items():
        if not _is_json(value):
            raise ConfigError(
                f"The run cannot be recorded: '{name}' holds objects instead of settings. Expected what JSON can hold; "
                "define it in the config files, or leave `KeepRunRecord` out of `train#handlers`."
            )
    return settings


def _overlays(config: Mapping[str, Any]) -> list[str] | None:
    names = config.get(CONFIG_FILES)
    return None if names is None else [name for name in names if name not in FILES]


def _training(config: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the other ids, without objects from programs, and without folders."""
    kept = {"datalist", "images", "class_names"}
    return {
        name: value
        for name, value in config.items()
        if name not in settings
        and (name in kept or not _is_of_one_run(name))
        and _is_json(value)
        and not any(Path(text).is_absolute() for text in _texts(value))
    }


def _is_of_one_run(name: str) -> bool:
    structure = name in ENTRY_IDS and name != "network_def"
    return structure or name in _OF_ONE_RUN or name.startswith("_") or name.endswith(("_dir", "_dirs"))


def _read_files(root: Path | None) -> dict[str, Any]:
    if root is None:
        return {}
    return {name: ConfigParser.load_config_file(str(root / name)) for name in FILES if (root / name).is_file()}


def _hash_files(root: Path | None, names: list[str]) -> dict[str, str]:
    paths = [] if root is None else [root / name for name in names]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths if path.is_file()}


def find_again(value: Any) -> Any:
    """Return settings with absolute paths of weights files: the next command may run in another folder."""
    if isinstance(value, Mapping):
        return {name: find_again(part) for name, part in value.items()}
    if isinstance(value, list):
        return [find_again(part) for part in value]
    if isinstance(value, str) and Path(value).suffix in _WEIGHTS_SUFFIXES and Path(value).is_file():
        return str(Path(value).resolve())
    return value


def _texts(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        return [text for part in value.values() for text in _texts(part)]
    if isinstance(value, list):
        return [text for part in value for text in _texts(part)]
    return [value] if isinstance(value, str) else []


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True
