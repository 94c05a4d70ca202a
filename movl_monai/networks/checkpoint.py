"""Read the facts of a checkpoint, hash its trained state, and write checkpoints atomically."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from movl_monai.backbones.base import digest_tensors
from movl_monai.errors import CheckpointMismatchError, MovlError

from .trained_state import decode_facts

__all__ = [
    "checkpoint_class_names",
    "checkpoint_task",
    "load_checkpoint",
    "read_facts",
    "save_atomically",
    "trained_state_sha256",
    "unwrap",
]


def save_atomically(content: Any, path: str | os.PathLike[str]) -> None:
    """Write ``content`` with :func:`torch.save` atomically: to a temporary file beside ``path``, which is then renamed.

    Raises:
        MovlError: if the folder cannot be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            with temporary.open("wb") as stream:
                torch.save(content, stream)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise MovlError(
            f"The checkpoint cannot be written: {error.strerror} ({path.parent}). "
            "Expected a folder that exists or can be made, with space left; choose another output_dir."
        ) from error


def load_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a checkpoint onto the CPU with ``weights_only=True``.

    Raises:
        CheckpointMismatchError: if the file is missing, damaged, or not a checkpoint of tensors.
    """
    try:
        _check_sums(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointMismatchError(
            f"There is no checkpoint at {path}. Expected the `model.pt` of a finished training; "
            "run training with the same output_dir first, or set `checkpoint` to the file."
        ) from error
    except (RuntimeError, EOFError, OSError, zipfile.BadZipFile, pickle.UnpicklingError) as error:
        raise CheckpointMismatchError(
            f"{path} is not a checkpoint that can be read safely: expected a file of tensors, got "
            f"{type(error).__name__}. It may be cut off or come from elsewhere; train again or take another file."
        ) from error
    return dict(content)


def _check_sums(path: str | os.PathLike[str]) -> None:
    """Raise BadZipFile if a byte of the archive has changed: torch stores check sums, but does not verify them."""
    if not zipfile.is_zipfile(path):
        return  # of another kind, which torch reports
    with zipfile.ZipFile(path) as archive:
        if (wrong := archive.testzip()) is not None:
            raise zipfile.BadZipFile(f"The check sum of {wrong} is wrong.")


def read_facts(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the record of a checkpoint: backbone name and sha256, class names, parts.

    Args:
        path: a `model.pt` (flat state) or a resume file (state under "network").
    """
    state = load_checkpoint(path)
    state = state.get("network", state)
    if "_extra_state" not in state:
        raise CheckpointMismatchError(f"{path} was not written by movl_monai: it does not name its frozen weights.")
    return decode_facts(state["_extra_state"])


def checkpoint_class_names(path: str | os.PathLike[str], default: list[str] | None) -> list[str] | None:
    """Return the class names of a checkpoint, or ``default`` if it does not exist yet.

    Inference configs need them for the number of logits before the checkpoint is loaded, and evaluation for the labels
    of other lists, which may lack a class or have findings in another order.
    """
    return read_facts(path)["class_names"] or default if Path(path).is_file() else default


def checkpoint_task(path: str | os.PathLike[str], default: str = "classification") -> str:
    """Return the task of a checkpoint, or ``default`` if it does not exist yet."""
    return str(read_facts(path).get("task", "classification")) if Path(path).is_file() else default


def trained_state_sha256(source: nn.Module | Mapping[str, torch.Tensor] | str | os.PathLike[str]) -> str:
    """Hash the trained tensors and the identity of their frozen weights.

    A checkpoint and a network that it was loaded into have the same hash, on any device.

    Args:
        source: a network, possibly inside DistributedDataParallel; a state dict; or the file of a checkpoint.

    Returns:
        64 hexadecimal digits.
    """
    if isinstance(source, nn.Module):
        state = dict(unwrap(source).state_dict())
    else:
        state = dict(source if isinstance(source, Mapping) else load_checkpoint(source))
        state = dict(state.get("network", state))
    said = state.pop("_extra_state", None)
    backbone = None if said is None else decode_facts(said)["backbone"]
    return digest_tensors(state, json.dumps(backbone, sort_keys=True).encode())


def unwrap(network: nn.Module) -> nn.Module:
    """Return the network inside a DistributedDataParallel or compiled wrapper."""
    for name in ("module", "_orig_mod"):
        inner = getattr(network, name, None)
        if isinstance(inner, nn.Module):
            return unwrap(inner)
    return network
