"""A `state_dict` of the trained tensors that names the frozen weights instead of carrying them."""

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from movl_monai.backbones import Backbone
from movl_monai.errors import CheckpointMismatchError

__all__ = ["TrainedStateNetwork", "decode_facts", "encode_facts"]

_FORMAT = 1
_FACTS_KEY = "_extra_state"
_BACKBONE = "backbone."
# a second path through the backbone's and the adapter's tensors, which already have names
_BORROWED = "adapted."
_UNSAVED = (_BACKBONE.rstrip("."), _BORROWED.rstrip("."))


def encode_facts(facts: Mapping[str, Any]) -> torch.Tensor:
    """Encode facts as a uint8 tensor, so that any container of tensors can carry them.

    Args:
        facts: values that :mod:`json` can encode.

    Returns:
        uint8 tensor (number of bytes,), UTF-8 JSON with sorted keys.

    Example:
        >>> decode_facts(encode_facts({"num_classes": 2}))
        {'num_classes': 2}
    """
    text = json.dumps(facts, sort_keys=True, ensure_ascii=False)
    return torch.tensor(list(text.encode("utf-8")), dtype=torch.uint8)


def decode_facts(tensor: torch.Tensor) -> dict[str, Any]:
    """Decode a tensor of :func:`encode_facts`.

    Raises:
        CheckpointMismatchError: if the bytes are not a record of facts.
    """
    try:
        facts = json.loads(bytes(tensor.detach().cpu().tolist()).decode("utf-8"))
    except (ValueError, TypeError, AttributeError) as error:
        raise CheckpointMismatchError(
            "The checkpoint's record of its frozen weights cannot be read: expected UTF-8 JSON in a uint8 tensor. "
            "The file is damaged or was not written by movl_monai; train again or take another file."
        ) from error
    return dict(facts)


class TrainedStateNetwork(nn.Module):
    """Network around a :class:`~movl_monai.backbones.Backbone` with small checkpoints.

    While ``backbone.frozen`` is true, ``state_dict()`` leaves out every tensor of the backbone and carries, in its
    extra state, the SHA-256 of the backbone's content. ``load_state_dict()`` compares that record with the present
    backbone, so that a prompt or head never runs on features other than those of its training. A trained backbone is
    saved completely.

    Args:
        backbone: the feature extractor; stored as ``self.backbone``.
        class_names: names of the outputs in their order, or None to take them from the first checkpoint loaded.
        task: name of the task that its logits are for, see :data:`movl_monai.report.tasks.TASKS`; None takes that of
            the class.

    Raises:
        CheckpointMismatchError: in ``load_state_dict``, if the frozen weights, the class names, the parts or a shape
            differ.
    """

    # without an annotation, which TorchScript would evaluate
    task = "classification"

    def __init__(self, *, backbone: Backbone, class_names: list[str] | None = None, task: str | None = None) -> None:
        super().__init__()
        if task is not None:
            self.task = task
        self.backbone = backbone
        self.class_names: list[str] = list(class_names) if class_names is not None else []
        self._register_state_dict_hook(_drop_frozen_tensors)
        self._register_load_state_dict_pre_hook(_compare_with_checkpoint, with_module=True)
        self.register_load_state_dict_post_hook(_forgive_frozen_tensors)

    @torch.jit.ignore
    def facts(self) -> dict[str, Any]:
        """Return the facts of the network for a checkpoint; for JSON, without paths and patient data."""
        # checkpoints of pooled features have no entry for layers, as in older versions
        layers = {} if self.backbone.layers == "last" else {"layers": self.backbone.layers}
        return {
            "format": _FORMAT,
            "backbone": {
                "name": self.backbone.spec.name,
                "frozen": bool(self.backbone.frozen),
                "sha256": self.backbone.content_sha256() if self.backbone.frozen else None,
                **layers,
            },
            "class_names": list(self.class_names),
            # checkpoints of the class's own task have no entry for it, as in older versions
            **({} if self.task == type(self).task else {"task": self.task}),
            "parts": {name: _described(part) for name, part in self.named_children() if name not in _UNSAVED},
        }

    @torch.jit.ignore
    def get_extra_state(self) -> torch.Tensor:
        """Return the facts as a uint8 tensor (see :func:`encode_facts`)."""
        return encode_facts(self.facts())

    @torch.jit.ignore
    def set_extra_state(self, state: torch.Tensor) -> None:
        """Adopt the class names of a checkpoint, if this network has none."""
        if not self.class_names:
            self.class_names = [str(name) for name in decode_facts(state).get("class_names", [])]

    @torch.jit.ignore
    def trainable_parameters(self) -> int:
        """Return the number of parameters that currently require a gradient."""
        return sum(parameter.numel() for parameter in self.parameters() if parameter.requires_grad)


def _described(part: nn.Module) -> str:
    """Return the name of a part's class, with an adapter's settings that its tensors do not show."""
    settings = getattr(part, "settings", None)
    return str(settings()) if callable(settings) else type(part).__name__


def _drop_frozen_tensors(module: nn.Module, state: dict[str, Any], prefix: str, _metadata: Any) -> None:
    left_out = (prefix + _BACKBONE, prefix + _BORROWED) if module.backbone.frozen else (prefix + _BORROWED,)  # type: ignore[union-attr]
    for key in [key for key in state if key.startswith(left_out)]:
        del state[key]


def _forgive_frozen_tensors(module: nn.Module, incompatible: Any) -> None:
    left_out = (f".{_BACKBONE}", f".{_BORROWED}") if module.backbone.frozen else (f".{_BORROWED}",)  # type: ignore[union-attr]
    incompatible.missing_keys[:] = [
        key for key in incompatible.missing_keys if not any(part in f".{key}" for part in left_out)
    ]


def _compare_with_checkpoint(
    module: nn.Module, state: Mapping[str, Any], prefix: str, _metadata: Any, _strict: bool, *_: Any
) -> None:
    if not isinstance(module, TrainedStateNetwork):
        raise TypeError(f"expected a TrainedStateNetwork, got {type(module).__name__}.")
    if prefix + _FACTS_KEY not in state:
        raise CheckpointMismatchError(
            "The checkpoint does not say which frozen weights it belongs to. Expected a checkpoint written by "
            f"movl_monai (with the entry '{prefix + _FACTS_KEY}'), got one with {len(state)} other entries. Pass the "
            "`model.pt` of a run."
        )
    theirs, ours = decode_facts(state[prefix + _FACTS_KEY]), module.facts()
    _compare_frozen(theirs["backbone"], ours["backbone"])
    _compare_tasks(theirs, module)
    _compare_parts(theirs["parts"], ours["parts"])
    _compare_backbones(theirs["backbone"], ours["backbone"])
    if ours["class_names"] and theirs["class_names"] and ours["class_names"] != theirs["class_names"]:
        raise CheckpointMismatchError(
            f"The checkpoint was trained for the classes {theirs['class_names']}, this network has "
            f"{ours['class_names']}. Use the data set's class names in the checkpoint's order, or train again."
        )
    _compare_shapes(module, state, prefix)


def _compare_frozen(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    if theirs["frozen"] != ours["frozen"]:
        words = {True: "frozen (the checkpoint holds no backbone)", False: "trained (the checkpoint holds all of it)"}
        raise CheckpointMismatchError(
            f"In the checkpoint the backbone is {words[theirs['frozen']]}, here it is {words[ours['frozen']]}. "
            "Use the same config files, overlays included, as in training."
        )


def _compare_backbones(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    if theirs.get("layers", "last") != ours.get("layers", "last"):
        raise CheckpointMismatchError(
            f"The checkpoint's head reads the layers {theirs.get('layers', 'last')!r} of its backbone, this network's "
            f"{ours.get('layers', 'last')!r}. Set layers to {json.dumps(theirs.get('layers', 'last'))}, or train again."
        )
    if theirs["sha256"] != ours["sha256"]:
        raise CheckpointMismatchError(
            f"The checkpoint was trained on the frozen weights of '{theirs['name']}' with sha256 "
            f"{theirs['sha256'][:12]}..., this network has '{ours['name']}' with sha256 "
            f"{(ours['sha256'] or 'none')[:12]}.... Load the weights that the checkpoint was trained on (the same "
            "backbone overlay), or train again on these."
        )


def _compare_tasks(theirs: Mapping[str, Any], module: TrainedStateNetwork) -> None:
    task = theirs.get("task", type(module).task)
    if task != module.task:
        raise CheckpointMismatchError(
            f"The checkpoint was trained for the task {task}, this network is for {module.task}. Use the same config "
            "files, overlays included, as in training."
        )


def _compare_parts(theirs: Mapping[str, str], ours: Mapping[str, str]) -> None:
    if dict(theirs) != dict(ours):
        raise CheckpointMismatchError(
            f"The checkpoint has the parts {dict(theirs)}, this network has {dict(ours)}. "
            "Use the same config files, overlays included, as in training."
        )


def _compare_shapes(module: TrainedStateNetwork, state: Mapping[str, Any], prefix: str) -> None:
    for key, value in module.state_dict().items():
        other = state.get(prefix + key)
        if key != _FACTS_KEY and isinstance(other, torch.Tensor) and other.shape != value.shape:
            raise CheckpointMismatchError(
                f"'{key}' has shape {tuple(other.shape)} in the checkpoint and {tuple(value.shape)} in this network. "
                "Use the same image_size, prompt_width and number of classes as in training."
            )
