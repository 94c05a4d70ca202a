"""Worker process of :class:`~benchmarks.readers.process.ReaderProcess`: one line per file."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import TextIO

import numpy as np

__all__ = ["READERS", "main"]

Read = Callable[[str, Sequence[int]], np.ndarray]


def _ours() -> Read:
    from movl_monai.transforms import LoadMedicalImage

    from .truth import CT_WINDOW, judged_frames

    load = LoadMedicalImage(ct_windows=[list(CT_WINDOW)])

    def read(path: str, frames: Sequence[int]) -> np.ndarray:
        # without a known truth, the frames of `judged_frames` stand for the file
        wanted = frames or judged_frames(load.frame_count(path))
        return np.stack([load(path, frame).numpy() for frame in wanted])

    return read


def _monai(name: str) -> Read:
    from monai.transforms import LoadImage

    load = LoadImage(reader=name, image_only=True)
    return lambda path, frames: np.asarray(load(path))


READERS: dict[str, Callable[[], Read]] = {
    "movl_monai": _ours,
    "ITKReader": lambda: _monai("ITKReader"),
    "PydicomReader": lambda: _monai("PydicomReader"),
}
"""Name -> factory of the reader. MONAI's are used in the usual way, by ``LoadImage(reader=name)``, which tries its
other readers if that one raises."""


def main(arguments: Sequence[str], requests: TextIO) -> int:
    """Answer requests, one JSON object per line, until they end."""
    # output of the readers and their libraries must not mix with the answers
    answers = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    warnings.simplefilter("ignore")
    read = READERS[arguments[0]]()
    for line in requests:
        request = json.loads(line)
        try:
            np.save(request["result"], read(request["path"], request["frames"]), allow_pickle=False)
            reply = {"status": "read", "detail": ""}
        except Exception as error:
            reply = {"status": "refused", "detail": str(getattr(error, "reason", "") or type(error).__name__)}
        answers.write(json.dumps(reply) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:], sys.stdin))
