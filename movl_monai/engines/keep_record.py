"""Write beside a checkpoint what it needs to be built again: the settings of its training, as the config had them."""

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

from .overlays import CONFIG_FILES
from .overrides import ENTRY_IDS, find_caller, reachable
from .verbatim import as_written

if TYPE_CHECKING:
    from movl_monai.data import Datalist, ImageDataset

__all__ = [
    "CONFIG_ROOT",
    "FILES",
    "RECORD_FILE",
    "RECORD_FORMAT",
    "KeepRunRecord",
    "find_again",
    "make_record",
    "note_start",
]

_LOGGER = logging.getLogger(__name__)

RECORD_FILE = "run.json"
_START = "kept_start"
RECORD_FORMAT = 1
FILES = ("metadata.json", "train.json", "evaluate.json", "inference.json")
# a config that no workflow read names its folder here; MONAI reads no id that starts with "_"
CONFIG_ROOT = "_config_root_"

# of one run on one machine, or what the workflows define each for themselves
_OF_ONE_RUN = {
    *("train", "validate", "network", "checkpoint", "resume", "overwrite", "device", "num_workers", "batch_size"),
    *("class_names", "prepare_processes"),
    *("id_map", "datalist", "images", "dataset", "dataloader", "handlers", "evaluator"),
}
_WEIGHTS_SUFFIXES = {".safetensors", ".pt", ".pth", ".bin"}


class KeepRunRecord:
    """Write `run.json` and `splits.csv` beside the checkpoint when training starts. Attach it before validation.

    The config is taken from the parser that builds this handler: raw, with its expressions, overlays and overrides
    merged. It is written when training starts and not earlier, so that a run that fails while it reads its data leaves
    checkpoint and record of the run before as they are.

    Args:
        path: the checkpoint; record and splits are written into its folder.
        datalist: the images of the training, whose whole list says the splits; None keeps none.
        images: the train and val images, decoded; those of other splits are decoded for their codes alone.

    Raises:
        ConfigError: if it is not built from a bundle config.
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
        """Write the splits and the record now, each whole or not at all.

        Args:
            resumed: the checkpoint stays until a better one is found, and so does what the record says of it.
        """
        from movl_monai.evaluation.files import to_json, write_atomically  # evaluation itself imports engines

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
    """Write into the record beside a checkpoint whether it holds the start of training; nothing without a record.

    Args:
        checkpoint: the file.
        start: "untrained" or "solved" (the head, exactly, before the first step); None for an epoch's state.
    """
    from movl_monai.evaluation.files import to_json, write_atomically  # evaluation itself imports engines

    place = checkpoint.with_name(RECORD_FILE)
    record = _read(place)
    if record and record.get(_START) != start:
        rest = {name: value for name, value in record.items() if name != _START}
        write_atomically(place, to_json(rest | ({} if start is None else {_START: start})).encode())


def _read(place: Path) -> dict[str, Any]:
    """Return a record; empty if there is none that can be read."""
    try:
        record = json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def make_record(config: Mapping[str, Any], *, config_root: Path | None, checkpoint: str) -> dict[str, Any]:
    """Collect what a run needs to be built again.

    Args:
        config: the merged raw config of a training.
        config_root: the folder of its files; None if it is not known.
        checkpoint: name of the checkpoint's file, without folder.

    Returns:
        JSON-able: ``format``, ``bundle`` (name of its folder), ``bundle_version``, ``versions``, ``git_commit``,
        ``git_modified``, ``checkpoint``; ``overlays`` (names of the config files beside the bundle's own; None
        if not known); ``imports`` (statements of the config); ``settings``: raw top-level ids that
        ``network_def``, the preprocessing and the inferer depend on, with the preprocessing as ``preprocessing``;
        ``training``: the other raw ids, such as the split and the strategy, without what lies in folders or was made
        for this one run; ``files``: the bundle's own files as they were. No folder is named but that of a weights file.
    """
    from movl_monai.evaluation.provenance import run_info  # evaluation itself imports engines

    files = _read_files(config_root)
    info = run_info()
    settings = _settings(config)
    return {
        "format": RECORD_FORMAT,
        "bundle": None if config_root is None else config_root.resolve().parent.name,
        "bundle_version": (config.get("_meta_") or files.get("metadata.json", {})).get("version"),
        **{name: info[name] for name in ("versions", "git_commit", "git_modified")},
        "checkpoint": checkpoint,
        "overlays": _overlays(config),
        "imports": config.get("imports", []),
        "settings": settings,
        "training": _training(config, settings),
        "files": files,
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
    """The other ids, without objects, which a program put there, and without folders, which say where data lies."""
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


def find_again(value: Any) -> Any:
    """Return settings with the paths of weights files made absolute: the next command may run in another folder."""
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
