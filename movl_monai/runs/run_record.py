"""Open a trained run from the record that its training kept: network, preprocessing, workflows."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from movl_monai.bundles import bundles_folder, find_bundle
from movl_monai.errors import ConfigError, UntrustedConfigError, WeightsError, user_error
from movl_monai.inspection import CODE, check_config
from movl_monai.runs.config_files import merge_configs, read_config
from movl_monai.runs.overrides import KNOWN_IDS, check_ids
from movl_monai.runs.record_file import FILES, find_record, read_record
from movl_monai.runs.verbatim import keep_strings, verbatim

if TYPE_CHECKING:
    import torch
    from monai.bundle import ConfigParser
    from torch import nn

__all__ = ["Run", "Workflow", "check_trusted", "find_record", "open_run", "read_record"]

Workflow = Literal["inference", "evaluate"]


def check_trusted(config: Any, *, name: str) -> None:
    """Refuse a config with code outside of the allow-list; nothing of it is evaluated.

    Args:
        config: a record, or a merged config.
        name: for the message.

    Raises:
        UntrustedConfigError: with the first such place.
    """
    found = [finding for finding in check_config(config) if finding.kind in CODE]
    if not found:
        return
    more = f" ({len(found) - 1} more)" if len(found) > 1 else ""
    raise UntrustedConfigError(
        f"{name} asks for code outside of the allow-list, at {found[0].place or 'its start'}: {found[0].text}{more} "
        "Expected parts of movl_monai, MONAI and torch, and plain expressions. `movl-monai inspect RUN` lists all "
        "places. If you wrote this code or trust who did, say so: `--trust`, in Python `trust=True`."
    )


def open_run(
    path: str | os.PathLike[str],
    *,
    overrides: Mapping[str, Any] | None = None,
    bundle_dir: str | os.PathLike[str] | None = None,
    trust: bool = False,
) -> Run:
    """Open a run. A record is a config: its targets are built and its expressions evaluated.

    A record, or a file of its bundle, with code outside of the allow-list of :mod:`movl_monai.inspection` is refused
    unless ``trust`` is set.

    Args:
        path: the ``output_dir`` of a training, its folder `models`, or a checkpoint beside a `run.json`.
        overrides: ids and values that replace the record's: ``{"backbone_weights": "elsewhere.safetensors"}``.
        bundle_dir: name or folder of the bundle whose files define the workflows. None searches for the
            bundle of the record's name around the run, in this package and in the working directory, and falls back on
            the copies of its files in the record.
        trust: also build targets and evaluate expressions outside of the allow-list, such as custom classes.

    Raises:
        ConfigError: if the record is missing, damaged or of another format, or ``bundle_dir`` is not the run's bundle.
        UntrustedConfigError: if the record is outside of the allow-list, and ``trust`` is not set.
    """
    given = Path(path)
    file = find_record(given)
    record = read_record(file)
    if not trust:
        check_trusted(record, name=file.name)
    checkpoint = given if given.is_file() and given != file else file.parent / Path(record["checkpoint"]).name
    bundle = None if bundle_dir is None else find_bundle(bundle_dir)
    if bundle is not None and not _is_bundle(bundle):
        raise ConfigError(f"{bundle} is no bundle: expected a folder with configs/inference.json and metadata.json.")
    if bundle is not None:
        _check_same_bundle(bundle, record)
    own = dict(overrides or {})
    return Run(record=record, checkpoint=checkpoint, overrides=own, given_bundle=bundle, trust=trust)


@dataclass(frozen=True, kw_only=True)
class Run:
    """A trained run, from :func:`open_run`.

    Args:
        record: content of `run.json`, described in :func:`~movl_monai.engines.make_record`.
        checkpoint: the file with the trained state.
        overrides: ids that replace the record's in every workflow.
        given_bundle: the bundle's folder; None searches for it.
        trust: also use configs outside of the allow-list.
    """

    record: Mapping[str, Any]
    checkpoint: Path
    overrides: Mapping[str, Any] = field(default_factory=dict)
    given_bundle: Path | None = None
    trust: bool = False

    @property
    def folder(self) -> Path:
        """The ``output_dir`` of the training."""
        parent = self.checkpoint.parent
        return parent.parent if parent.name == "models" else parent

    @property
    def bundle_dir(self) -> Path:
        """The folder of the bundle.

        Raises:
            ConfigError: if it is not found.
        """
        found = self._find_bundle()
        if found is None:
            raise ConfigError(
                f"The bundle '{self.record['bundle']}' of this run is not found: looked around the run, in the "
                "package and in the working directory. Give its folder with `bundle_dir` (`--bundle_dir DIR`)."
            )
        return found

    @property
    def has_bundle(self) -> bool:
        """True if the folder of the bundle is found; otherwise the record's copies of its files are used."""
        return self._find_bundle() is not None

    @property
    def class_names(self) -> list[str]:
        """Names of the outputs, in order."""
        return [str(name) for name in self._facts["class_names"]]

    @property
    def task(self) -> str:
        """Name of the network's task."""
        module, _, name = self.record["settings"]["network_def"]["_target_"].rpartition(".")
        kind = getattr(importlib.import_module(module), name)
        own = str(getattr(kind, "task", "classification"))
        return str(self._facts.get("task", own)) if self.checkpoint.is_file() else own

    @cached_property
    def _facts(self) -> dict[str, Any]:
        from movl_monai.networks import read_facts

        return read_facts(self.checkpoint)

    def parser(self, workflow: Workflow = "inference", **overrides: Any) -> ConfigParser:
        """Return the parsed config of one of the bundle's workflows with the settings of the run.

        Args:
            workflow: "inference", or "evaluate", which needs the data set: ``dataset_dir="..."``.
            overrides: ids and values; nested ones as ``**{"adapter#rank": 4}``.

        Raises:
            ConfigError: for an override that nothing reads, or a missing file of the bundle.
        """
        from monai.bundle import ConfigParser

        parser = ConfigParser(self.config(workflow))
        parser.update(keep_strings({**self.overrides, **overrides}))
        check_ids(parser.get(), known=parser[KNOWN_IDS])
        parser.parse(reset=True)
        return parser

    def config(self, workflow: Workflow) -> dict[str, Any]:
        """Return the raw config of a workflow with the settings of the run, without overrides.

        Its entry :data:`~movl_monai.runs.overrides.KNOWN_IDS` names the ids that may be unread.

        Raises:
            ConfigError: for a missing file of the bundle.
            UntrustedConfigError: for a config outside of the allow-list in a run that is not trusted.
        """
        settings = dict(self.record["settings"])
        if workflow == "inference":
            parts = [self.file("inference.json"), settings, {"output_dir": verbatim(str(self.folder / "inference"))}]
        else:
            preprocessing = {"train#preprocessing": settings.pop("preprocessing", None)}
            recorded = [settings, self.record["training"], {"output_dir": verbatim(str(self.folder))}]
            parts = [self.file("train.json"), *recorded, preprocessing, self.file("evaluate.json")]
        parts += [{"checkpoint": verbatim(str(self.checkpoint)), "_meta_": self.file("metadata.json")}]
        merged = merge_configs([(f"{workflow}.json of the run", part) for part in parts])
        merged["imports"] = list(dict.fromkeys([*parts[0].get("imports", []), *self.record["imports"]]))
        merged[KNOWN_IDS] = sorted({name for part in parts for name in part})
        if not self.trust:
            check_trusted(merged, name=f"{workflow}.json of the bundle")
        return {name: value if name.startswith("_") else keep_strings(value) for name, value in merged.items()}

    def network(self, device: str | torch.device = "cpu") -> nn.Module:
        """Return the trained network, in eval mode.

        Raises:
            CheckpointMismatchError: if the checkpoint is missing or does not fit.
            WeightsError: if the backbone's weights are not at the place of the training.
        """
        from movl_monai.networks import load_checkpoint

        state = load_checkpoint(self.checkpoint)
        network = self._build("network_def")
        network.load_state_dict(state)
        return network.to(device).eval()

    def preprocessing(self) -> Any:
        """Return the bundle's preprocessing: ``{"image": path}`` to an item with image (3, H, W), float32 in [0, 1]."""
        return self._build("preprocessing")

    def file(self, name: str) -> dict[str, Any]:
        """Return a config file of the bundle, from its folder or else from the record.

        Raises:
            ConfigError: if it is in neither.
        """
        bundle = self._find_bundle()
        if bundle is not None and (bundle / "configs" / name).is_file():
            return read_config(bundle / "configs" / name)
        if name not in self.record.get("files", {}):
            raise ConfigError(
                f"{name} of the bundle '{self.record['bundle']}' is not found, and the record has no copy of it. Give "
                "the bundle's folder with `bundle_dir` (`--bundle_dir DIR`)."
            )
        return dict(self.record["files"][name])

    def _find_bundle(self) -> Path | None:
        if self.given_bundle is not None:
            return self.given_bundle
        name = self.record["bundle"]
        if name is None:
            return None
        around = [parent for parent in self.checkpoint.resolve().parents if parent.name == name]
        here = Path.cwd()
        places = [*around, bundles_folder() / name, here / "bundles" / name, here / name]
        places += [here] if here.name == name else []
        return next((place for place in places if _is_bundle(place)), None)

    def _build(self, name: str) -> Any:
        """Build an id of the inference workflow; MONAI's wrapped errors are raised as the project's own."""
        parser = self.parser("inference")
        try:
            return parser.get_parsed_content(name)
        except Exception as error:
            known = user_error(error)
            if isinstance(known, WeightsError):
                name = "member_0_backbone_weights" if self.record.get("members") else "backbone_weights"
                raise WeightsError(
                    f"The network of this run cannot be built: {known} If its weights lie elsewhere now, override "
                    f"the id that names them, e.g. `--{name} FILE` (overrides={{'{name}': FILE}})."
                ) from error
            if known is not None and known is not error:
                raise known from error
            raise


def _check_same_bundle(bundle: Path, record: Mapping[str, Any]) -> None:
    """Raise ConfigError if a folder is a bundle of another name; the folder itself may have any name."""
    given = read_config(bundle / "configs" / "metadata.json").get("name")
    trained = record.get("files", {}).get("metadata.json", {}).get("name")
    if given is not None and trained is not None and given != trained:
        raise ConfigError(
            f"{bundle} is the bundle {given!r}, but this run was trained by {trained!r}; give the folder of that one, "
            "or leave it out to have it found."
        )


def _is_bundle(folder: Path) -> bool:
    return all((folder / "configs" / name).is_file() for name in FILES)
