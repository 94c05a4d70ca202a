"""Explain differences between the names in a weights file and in a network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import torch

__all__ = ["explain_names", "without_counters"]

_OTHER_FILE = "Choose the architecture (and image_size) that the file was made for, or another file."
_ENOUGH = 0.9
_KINDS = {
    "module.": "DataParallel",
    "model.": "Lightning",
    "net.": "Lightning",
    "encoder_q.": "MoCo",
    "encoder_k.": "MoCo",
    "_orig_mod.": "torch.compile",
    "student.": "DINO",
    "teacher.": "DINO",
}


def without_counters(names: Sequence[str]) -> list[str]:
    """Return the names without batch counters, which many files leave out."""
    return [name for name in names if not name.endswith("num_batches_tracked")]


def explain_names(
    expected: Mapping[str, torch.Tensor],
    given: Mapping[str, torch.Tensor],
    *,
    prefix: str | None = None,
) -> str:
    """Return the remedy for tensors that do not fit: remove a prefix, match by order, or use another file.

    Args:
        expected: tensors of the network.
        given: tensors of the file, as they were matched.
        prefix: prefix that was already removed from the names.

    Example:
        >>> tensor = torch.zeros(2)
        >>> explain_names({"a.weight": tensor}, {"module.a.weight": tensor})[:54]
        "The file's names begin with 'module.' (DataParallel); "
    """
    wanted = without_counters(list(expected))
    # a removed prefix was the user's choice
    found = [] if prefix is not None else _prefixes(wanted, expected, given)
    if found:
        named = ", ".join(f"{one!r}{_kind(one)}" for one in found)
        choice = "one of these" if len(found) > 1 else "it"
        return (
            f"The file's names begin with {named}; take {choice} off with prefix={found[0]!r}: "
            f"{_setting('prefix', found[0])}"
        )
    if _same_order(wanted, expected, given):
        return (
            "The file has the same shapes in the same order under other names, as RadImageNet and other exports do; "
            f"match them by order: {_setting('order', 'positional')}"
        )
    other = [] if prefix is not None else _prefixes_of_others(wanted, expected, given)
    if other:
        return (
            f"The file's names begin with {other[0]!r}{_kind(other[0])}, and behind that it is of another architecture "
            f"of the same family. {_OTHER_FILE} Take the prefix off then: {_setting('prefix', other[0])}"
        )
    return _OTHER_FILE


def _setting(name: str, value: str) -> str:
    weights = {"_target_": "movl_monai.backbones.WeightsFile", "path": "FILE", name: value}
    return f'train with `--backbone#weights "{weights}"`, or write this as "weights" of the backbone in a config.'


def _prefixes(
    wanted: Sequence[str], expected: Mapping[str, torch.Tensor], given: Mapping[str, torch.Tensor]
) -> list[str]:
    """Return prefixes under which the file has nearly all tensors of the network with their shapes."""
    counts: Counter[str] = Counter()
    for one in _candidates(wanted, given):
        counts[one] = sum(one + name in given and given[one + name].shape == expected[name].shape for name in wanted)
    return [one for one, count in counts.most_common() if wanted and count >= _ENOUGH * len(wanted)]


def _prefixes_of_others(
    wanted: Sequence[str], expected: Mapping[str, torch.Tensor], given: Mapping[str, torch.Tensor]
) -> list[str]:
    """Return prefixes after which nearly all tensors of the file have names of the network, but not all its names."""
    counts: Counter[str] = Counter()
    for one in _candidates(wanted, given):
        behind = [name.removeprefix(one) for name in given if name.startswith(one)]
        if sum(name in expected for name in behind) >= _ENOUGH * len(behind):
            counts[one] = len(behind)
    return [one for one, _ in counts.most_common()]


def _candidates(wanted: Sequence[str], given: Mapping[str, torch.Tensor]) -> list[str]:
    """Return prefixes in the file before the first names of the network."""
    found = (name.removesuffix(one) for name in given for one in wanted[:3] if name.endswith(f".{one}"))
    return list(dict.fromkeys(found))


def _same_order(
    wanted: Sequence[str],
    expected: Mapping[str, torch.Tensor],
    given: Mapping[str, torch.Tensor],
) -> bool:
    shapes = [given[name].shape for name in without_counters(list(given))]
    # a head has a weight and a bias
    return [expected[name].shape for name in wanted] == shapes[: len(wanted)] and len(shapes) <= len(wanted) + 2


def _kind(prefix: str) -> str:
    kinds = [kind for part, kind in _KINDS.items() if part in prefix]
    return f" ({', '.join(dict.fromkeys(kinds))})" if kinds else ""
