"""Provenance of a result: versions, weights, checkpoint, trained parts."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import nn

import movl_monai
from movl_monai.files import jsonable
from movl_monai.networks import trained_state_sha256

__all__ = ["bundle_facts", "run_info"]

_PACKAGES = ("torch", "monai", "timm", "numpy", "scikit-learn")


def run_info(
    *,
    network: nn.Module | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    seed: int | None = None,
    strategy: Any = None,
    facts: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Collect the facts needed to reproduce a result, without data, people or folders.

    Args:
        network: an :class:`~movl_monai.networks.AdaptedClassifier`, possibly inside DistributedDataParallel.
        checkpoint: file for size and sha256; ``network`` must hold it.
        seed: seed of the run.
        strategy: list of stages, or its name.
        facts: further facts, without paths and patient data.

    Returns:
        JSON-able: ``seed``, ``versions``, ``git_commit`` and ``git_modified`` (None outside a checkout), ``device``,
        ``backbone``, ``weights_sha256``, ``checkpoint_bytes``, ``checkpoint_file_sha256``, ``checkpoint_sha256`` (of
        the trained state, as predictions and exported files name it), ``trainable_parameters``,
        ``backbone_parameters``, ``trainable_percent`` (relative to the backbone's parameters), ``adapter_percent`` (the
        adapter alone), ``prompt``, ``adapter`` (with its settings), ``head`` (for an ensemble those of its members,
        joined by " + "), ``strategy``, of a network for units ``unit`` and ``pooling``, and the given facts.
    """
    commit, modified = _git()
    info: dict[str, Any] = {"seed": seed, "versions": _versions(), "git_commit": commit, "git_modified": modified}
    info |= _network_facts(getattr(network, "module", network)) | _checkpoint_facts(checkpoint)
    info["checkpoint_sha256"] = None if network is None else trained_state_sha256(network)
    return dict(jsonable({**info, "strategy": strategy, **(facts or {})}))


def bundle_facts(checkpoint: str | os.PathLike[str] | None) -> dict[str, Any]:
    """Return facts from the record beside a checkpoint; missing ones are None.

    Returns:
        ``bundle``, ``bundle_version``, ``overlays``; ``kept_start``: "untrained" or "solved" if no epoch of training
        was better on val than the state before the first step; ``intended_use`` as stated in the bundle's metadata.
    """
    facts: dict[str, Any] = {"bundle": None, "bundle_version": None, "overlays": None, "kept_start": None}
    facts["intended_use"] = None
    record = None if checkpoint is None else Path(checkpoint).with_name("run.json")
    try:
        content = json.loads(record.read_text(encoding="utf-8")) if record is not None else {}
    except (OSError, ValueError):  # runs of earlier versions have none
        return facts
    if not isinstance(content, dict):
        return facts
    metadata = (content.get("files") or {}).get("metadata.json") or {}
    return {**{name: content.get(name) for name in facts}, "intended_use": metadata.get("intended_use")}


def _versions() -> dict[str, str | None]:
    versions: dict[str, str | None] = {"python": platform.python_version(), "movl_monai": movl_monai.__version__}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return versions


def _network_facts(network: Any) -> dict[str, Any]:
    facts: dict[str, Any] = dict.fromkeys(
        (
            *("device", "backbone", "weights_sha256", "trainable_parameters", "backbone_parameters"),
            *("trainable_percent", "adapter_percent", "prompt", "adapter", "head"),
        )
    )
    if network is None:
        return facts
    saved = network.state_dict()
    # the parameters in the checkpoint were trained, regardless of which ones require a gradient now
    facts["trainable_parameters"] = sum(part.numel() for name, part in network.named_parameters() if name in saved)
    first = next(network.parameters(), torch.empty(0))
    facts["device"] = torch.cuda.get_device_name(first.device) if first.is_cuda else first.device.type
    backbone = getattr(network, "backbone", None)
    if backbone is not None:
        facts["backbone"] = getattr(backbone, "spec", None)
        facts["weights_sha256"] = getattr(facts["backbone"], "weights_sha256", None)
        facts["backbone_parameters"] = sum(part.numel() for part in backbone.parameters())
        facts["trainable_percent"] = 100 * facts["trainable_parameters"] / facts["backbone_parameters"]
    adapter = getattr(network, "adapter", None)
    if adapter is not None:
        facts["adapter"], facts["adapter_percent"] = adapter.settings(), adapter.share_of_backbone()
    for name in ("prompt", "head"):
        part = getattr(network, name, None)
        facts[name] = None if part is None or isinstance(part, nn.Identity) else _described(part)
    if unit := getattr(network, "unit", None):  # of several images
        facts |= {"unit": unit["unit"], "pooling": _described(network.pooling)}
    if (members := getattr(network, "members", None)) is not None:  # an ensemble
        own = [_network_facts(member) for member in members]
        for name in ("prompt", "adapter", "head"):
            facts[name] = " + ".join(str(part[name] or "none") for part in own)
    return facts


def _described(part: Any) -> str:
    settings = getattr(part, "settings", None)  # only some parts have settings
    return str(settings()) if callable(settings) else type(part).__name__


def _checkpoint_facts(checkpoint: str | os.PathLike[str] | None) -> dict[str, Any]:
    if checkpoint is None or not Path(checkpoint).is_file():
        return {"checkpoint_bytes": None, "checkpoint_file_sha256": None}
    content = Path(checkpoint).read_bytes()
    return {"checkpoint_bytes": len(content), "checkpoint_file_sha256": hashlib.sha256(content).hexdigest()}


def _git() -> tuple[str | None, bool | None]:
    """Return the commit of the checkout that holds this package, and whether files differ from it."""
    root = Path(movl_monai.__file__).resolve().parent.parent
    if not (root / ".git").exists():  # an installed package may lie inside another repository
        return None, None
    try:
        commit = _run_git(root, "rev-parse", "HEAD")
        return commit or None, bool(_run_git(root, "status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):
        return None, None


def _run_git(root: Path, *words: str) -> str:
    # --no-optional-locks: a query must not disturb a concurrent commit
    command = ["git", "--no-optional-locks", "-C", os.fspath(root), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
