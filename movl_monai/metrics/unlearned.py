"""Refuse to compare two runs on test images that one of them learned from."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

from movl_monai.data.keep import Leak, leakage_error
from movl_monai.data.kept_splits import LEARNED, SPLITS_FILE, KeptSplits, digest_files, read_kept_splits
from movl_monai.metrics.matching import ImageNames

__all__ = ["refuse_learned"]

_LOGGER = logging.getLogger(__name__)


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
