"""Check a workflow before torch and MONAI are imported: files, run id, settings, paths, lists of images."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from movl_monai.errors import ConfigError, DataError, WeightsError
from movl_monai.files import missing_part
from movl_monai.runs.config_files import find_place, merge_configs, read_config
from movl_monai.runs.output_dir import check_output_dir
from movl_monai.runs.overlays import check_base_first
from movl_monai.runs.overrides import check_config, check_run_id, find_ids
from movl_monai.runs.verbatim import as_written

__all__ = ["check_apart", "check_paths", "check_workflow", "literal"]

_WEIGHTS = (".safetensors", ".pt", ".pth", ".bin")
_PATH_BELOW = re.compile(r"\$os\.path\.join\((@\w+)((?:, '[^']*')+)\)")
_LISTS = ("read_datalist", "read_mask_datalist", "read_unlabelled")


class _NotLiteral(Exception):
    pass


def check_workflow(run_id: str, files: Sequence[str], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Check a workflow, and return its merged config.

    Nothing is evaluated and no image is opened. A path or list that an expression of the config computes is left to
    the workflow.

    Args:
        run_id: "training", "evaluating" or "inferring".
        files: the workflow's config file, then overlays.
        overrides: ids and their values.

    Raises:
        ConfigError: for a missing or unreadable file, an unknown run id or setting, a value of another kind, a path
            that is not there, or an output folder in use.
        DataError: for a list of images that cannot be trained on or evaluated.
    """
    contents = [(Path(file).name, _read(file, number)) for number, file in enumerate(files)]
    check_base_first(contents)
    config = merge_configs(contents)
    for name in overrides:
        find_place(config, name, of=f"`--{name}`")
    config = merge_configs([("", config), ("", overrides)])
    check_run_id(config, run_id)
    check_config(config, [Path(file) for file in files], overrides)
    check_paths(config, run_id)
    return config


def check_paths(config: Mapping[str, Any], run_id: str) -> None:
    """Check the data set, the pretrained weights, the checkpoint and the output folder of a merged config.

    Raises:
        ConfigError: for a path that is not there, or an output folder in use.
        WeightsError: for a file of weights that is not there.
        DataError: for a list of images that cannot be used.
    """
    _check_weights(config)
    _check_data(config, run_id)
    folder, source = literal(config, "output_dir"), literal(config, "dataset_dir")
    if not isinstance(folder, str):
        return
    if isinstance(source, str):
        check_apart(source, folder)
    checkpoint = literal(config, "checkpoint")
    if not isinstance(checkpoint, str):
        return
    if run_id == "training":
        replace = literal(config, "overwrite") or literal(config, "resume")
        check_output_dir(folder, checkpoint=checkpoint, overwrite=bool(replace))
    elif not Path(checkpoint).is_file():
        raise ConfigError(
            f"There is no checkpoint at {Path(checkpoint).absolute()}. Train first, or name the model.pt of a "
            "training: `--checkpoint FILE`" + ("." if run_id == "inferring" else ", `--output_dir OUT`.")
        )


def check_apart(source: str | os.PathLike[str], folder: str | os.PathLike[str]) -> None:
    """Check that an output folder does not lie in the folder of a data set, which is read as a whole.

    Raises:
        ConfigError: if it does.
    """
    origin = Path(source)
    if origin.is_dir() and Path(folder).resolve().is_relative_to(origin.resolve()):
        raise ConfigError(
            "--output_dir lies in the folder of the data set, so that the next command would read its pictures as "
            "images. Choose a folder outside."
        )


def literal(config: Mapping[str, Any], name: str) -> Any:
    """Return the value of an id whose config is written out, or a path below one that is; None for other expressions.

    Example:
        >>> config = {"a": "@b", "b": "OUT", "c": "$@b + 1", "d": "$os.path.join(@b, 'models', 'model.pt')"}
        >>> literal(config, "a"), literal(config, "c"), literal(config, "d")
        ('OUT', None, 'OUT/models/model.pt')
    """
    return _known(config, config.get(name))


def _known(config: Mapping[str, Any], value: Any) -> Any:
    try:
        return _literal(config, value)
    except _NotLiteral:
        return None


def _literal(config: Mapping[str, Any], value: Any, depth: int = 0) -> Any:
    value = as_written(value)
    if isinstance(value, str) and value.startswith("@") and value[1:] in config and depth < 10:
        return _literal(config, config[value[1:]], depth + 1)
    if isinstance(value, str) and (path := _PATH_BELOW.fullmatch(value)) is not None:
        return os.path.join(str(_literal(config, path[1], depth + 1)), *re.findall("'([^']*)'", path[2]))
    if isinstance(value, str) and value.startswith(("$", "@", "%")):
        raise _NotLiteral
    if isinstance(value, Mapping):
        if "_target_" in value:
            raise _NotLiteral
        return {name: _literal(config, part, depth) for name, part in value.items()}
    return [_literal(config, part, depth) for part in value] if isinstance(value, list) else value


def _check_weights(config: Mapping[str, Any]) -> None:
    path = literal(config, "backbone_weights")
    is_file = isinstance(path, str) and path.lower().endswith(_WEIGHTS)
    if is_file and "backbone_weights" in find_ids(config.get("backbone")) and not Path(path).expanduser().is_file():
        raise WeightsError(
            f"`--backbone_weights` names no file: {missing_part(path)}. Put the file there, or give another with "
            "`--backbone_weights FILE`; 'hub' downloads, and 'random' takes random weights."
        )


def _check_data(config: Mapping[str, Any], run_id: str) -> None:
    spec = config.get("datalist")
    if not isinstance(spec, Mapping):
        return
    target = str(spec.get("_target_", ""))
    kind = target.rpartition(".")[2]
    if not target.startswith("movl_monai.data.") or kind not in _LISTS:
        return
    given = {name: _known(config, value) for name, value in spec.items()}
    given = {name: value for name, value in given.items() if value is not None}
    if not isinstance(given.get("source"), str):
        return
    source = Path(given["source"])
    if not source.exists():
        raise ConfigError(
            f"`--dataset_dir` names no file or folder: {missing_part(source)}. Give a CSV file, a JSON file or a "
            "folder."
        )
    names = spec.get("class_names")
    if run_id == "evaluating" and isinstance(names, str) and names.startswith("$"):
        return  # the list is read with the names of a checkpoint, which the workflow opens
    from movl_monai.data.reading import check_lists
    from movl_monai.data.sources import read_images

    try:
        if kind == "read_unlabelled":
            read_images(source)
        else:
            kept = "kept_splits" in spec and (run_id != "training" or bool(literal(config, "resume")))
            check_lists(given, masks=kind == "read_mask_datalist", kept=kept)
    except DataError as error:
        named = str(error).startswith(("ood_dataset_dirs", "far_dataset_dirs"))
        raise error if named else type(error)(f"dataset_dir: {error}") from error


def _read(file: str, number: int) -> dict[str, Any]:
    try:
        return read_config(file)
    except ConfigError as error:
        if number and "." not in Path(file).name and not Path(file).exists():
            raise ConfigError(f"{error} Overrides are written `--{file} VALUE`.") from error
        raise
