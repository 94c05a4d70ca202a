"""Match the images in the stored outputs of two runs whose ids have different salts.

Stored outputs deliberately hold no name that two runs share, because anyone with an image could then find it in them.
The shared name is the key (path below the data root, and frame) in the id map of each run. This local file is readable
by its owner only. The keys are compared in memory and written nowhere.
"""

from __future__ import annotations

import filecmp
import logging
import os
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path

import numpy as np

from movl_monai.data.ids import IdMap
from movl_monai.data.keep import Leak, leakage_error
from movl_monai.data.kept_splits import LEARNED, SPLITS_FILE, KeptSplits, digest_files, read_kept_splits
from movl_monai.errors import MovlError
from movl_monai.metrics.stored.outputs import find_outputs

__all__ = [
    "DifferentTestSetsError",
    "ImageNames",
    "match_images",
    "names_of_evaluation",
    "read_image_names",
    "refuse_learned",
]

_LOGGER = logging.getLogger(__name__)


class DifferentTestSetsError(MovlError):
    """Two runs were evaluated on different images, so that a paired comparison is impossible."""


class ImageNames:
    """Names of the images behind the ids of one run.

    Args:
        keys: for each id a name that is equal in every run, such as path below the data root and frame.
        paths: for each id its file on this machine, if known.
    """

    def __init__(self, keys: Mapping[str, Hashable], *, paths: Mapping[str, str] | None = None) -> None:
        self.keys = dict(keys)
        self.paths = dict(paths or {})

    def of(self, ids: Sequence[str]) -> list[Hashable]:
        """Return the keys of ids.

        Raises:
            MovlError: if an id is unknown.
        """
        missing = sum(name not in self.keys for name in ids)
        if missing:
            raise MovlError(
                f"{missing} of {len(ids)} images are not in the id map of their run, which is of another evaluation. "
                "Evaluate that run again."
            )
        return [self.keys[name] for name in ids]


def read_image_names(path: str | os.PathLike[str]) -> ImageNames | None:
    """Read the image names of a run from its ``local/id_map.json``; return None if the file is missing.

    Args:
        path: folder of a run or of its evaluation, or stored outputs.

    Raises:
        MovlError: if there are no stored outputs, or the id map is damaged.
    """
    return names_of_evaluation(find_outputs(path).resolve().parent)


def names_of_evaluation(folder: Path) -> ImageNames | None:
    """Read the image names of a run from the folder of its evaluation; see :func:`read_image_names`."""
    file = folder.resolve().parent / "local" / "id_map.json"
    if not file.is_file():
        return None
    ids = IdMap(file)
    return ImageNames(ids.keys(), paths={name: ids.path_of(name) for name in ids.keys()})  # noqa: SIM118


def match_images(
    ids_a: Sequence[str], ids_b: Sequence[str], *, names_a: ImageNames | None = None, names_b: ImageNames | None = None
) -> np.ndarray:
    """Return the rows of b in the order of a, for two lists of the same images.

    If the lists share any id, both have the same salt, and equal ids are the same image. Otherwise both need names.

    Args:
        ids_a: salted ids, (N,).
        ids_b: salted ids, (N,).
        names_a: names behind ``ids_a``.
        names_b: names behind ``ids_b``.

    Returns:
        int64 (N,).

    Raises:
        DifferentTestSetsError: if one list has images that the other lacks, or files of equal name differ.
        MovlError: if the salts differ and there are no names.

    Example:
        >>> match_images(["0a", "0b"], ["0b", "0a"])
        array([1, 0])
    """
    one: list[Hashable] = list(ids_a)
    two: list[Hashable] = list(ids_b)
    if ids_a and ids_b and not set(one) & set(two):
        if names_a is None or names_b is None:
            which = [name for name, names in (("a", names_a), ("b", names_b)) if names is None]
            raise MovlError(
                "The ids of the two runs are salted differently, and local/id_map.json of run "
                f"{' and '.join(which)} is missing, so that nothing tells which images are the same. Compare "
                "where both runs were evaluated, or give both the same id map (id_map#path) and evaluate them again."
            )
        one, two = names_a.of(ids_a), names_b.of(ids_b)
    place = {key: row for row, key in enumerate(two)}
    if len(place) < len(two) or len(set(one)) < len(one):
        raise MovlError("An image is there twice; expected each once. Evaluate the run again.")
    common = sum(key in place for key in one)
    if common < max(len(one), len(two)):
        raise DifferentTestSetsError(
            f"The runs were evaluated on different images: a on {len(one)}, b on {len(two)}, {common} of them the "
            "same. Evaluate both on the same data set with the same split (a manifest with a split column keeps it)."
        )
    rows = np.array([place[key] for key in one], dtype=np.int64)
    if names_a is not None and names_b is not None:
        _check_files([names_a.paths.get(name) for name in ids_a], [names_b.paths.get(ids_b[row]) for row in rows])
    return rows


def _check_files(paths_a: Sequence[str | None], paths_b: Sequence[str | None]) -> None:
    """Compare files of equal name if both exist here: two data sets may use the same names for different images."""
    pairs = {(one, two) for one, two in zip(paths_a, paths_b, strict=True) if one and two and one != two}
    here = [(one, two) for one, two in pairs if Path(one).is_file() and Path(two).is_file()]
    differing = sum(not filecmp.cmp(one, two, shallow=False) for one, two in here)
    if differing:
        raise DifferentTestSetsError(
            f"{differing} images have the same name in both runs but are other files: the runs were evaluated on "
            "different data sets. Evaluate both on the same one."
        )


def refuse_learned(
    evaluations: Sequence[str | os.PathLike[str]], ids: Sequence[str], names: ImageNames | None, *, domain: str
) -> None:
    """Check that no run learned from the test images of a comparison.

    The runs keep their splits beside their checkpoints. Images are identified by the content of their files or, if
    these are not on this machine, by their paths below the data root.

    Args:
        evaluations: folder of the evaluation of each run.
        ids: ids of the test images in the first run.
        names: names behind these ids; without them nothing can be checked, which is logged.
        domain: domain of the images.

    Raises:
        LeakageError: if a run learned from some of the images.
    """
    for evaluation in evaluations:
        folder = Path(evaluation).resolve().parent
        kept = read_kept_splits(folder / "models" / SPLITS_FILE)
        if kept is None or names is None:
            _LOGGER.warning(
                "It cannot be checked that %s did not learn from the test images that it is compared on: %s.",
                folder.name,
                "its training kept no splits" if kept is None else "local/id_map.json of the run is missing",
            )
            continue
        leaks = _learned(kept, ids, names, domain)
        if leaks:
            raise leakage_error(leaks, folder / "local", run=folder.name)


def _learned(kept: KeptSplits, ids: Sequence[str], names: ImageNames, domain: str) -> list[Leak]:
    paths = {name: Path(names.paths[name]) for name in ids if name in names.paths}
    digests = digest_files(paths.values())
    absent = [name for name in ids if not digests.get(paths.get(name, Path()))]
    kept.slow_codes("image", (_key(names, name) for name in absent))
    leaks = []
    for name in ids:
        digest = digests.get(paths.get(name, Path()), "")
        rows = kept.by_file.get(kept.content_code(digest), []) if digest else []
        if not digest:
            rows = kept.by_image.get(kept.image_code(_key(names, name)), [])
        if any(kept.images[row].split in LEARNED for row in rows):
            leaks.append(Leak(path=str(paths.get(name, "")), found="file", domain=domain))
    return leaks


def _key(names: ImageNames, name: str) -> str:
    key = names.keys.get(name, "")
    return str(key[0] if isinstance(key, tuple) else key)
