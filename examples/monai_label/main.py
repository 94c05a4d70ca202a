"""MONAI Label app: predicts with models of movl_monai, and trains one on the labels of the datastore.

It imports nothing of movl_monai: MONAI Label needs NumPy 1 and pydicom 2, which movl_monai does not run with, so
`movl-monai` is started as a program of an environment of its own. See docs/howto/label.md.
"""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from lib.program import Program, ProgramError
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import Datastore, DefaultLabelTag
from monailabel.interfaces.exception import MONAILabelError, MONAILabelException
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType
from monailabel.interfaces.tasks.train import TrainTask

MINUTES = 30
CONF = ("model", "movl", "output", "settings")


class Predict(InferTask):
    """Classes or masks of the opened image, with one model.

    Args:
        program: `movl-monai`.
        find: returns the path of a run or exported file; None as long as there is none.
    """

    def __init__(self, program: Program, find: Callable[[], str | None]) -> None:
        super().__init__(InferType.OTHERS, [], 2, "")
        self.program, self.find = program, find
        self.model: str | None = None
        self.is_valid()

    def is_valid(self) -> bool:
        """Return whether there is a model; a new one is opened for its task and classes.

        Raises:
            MONAILabelException: if it cannot be opened.
        """
        model = self.find()
        if model and model != self.model:
            with _as_label_error(MONAILabelError.APP_INIT_ERROR):
                task, names = self.program.describe(model)
            segments = task == InferType.SEGMENTATION.value
            self.type = InferType.SEGMENTATION if segments else InferType.CLASSIFICATION
            self.dimension = 3 if segments else 2
            self.labels = {name: number for number, name in enumerate(names) if number or not segments}
            self.description = f"{task.capitalize()} with {Path(model).name} (research use only; not for diagnosis)"
            self.model = model
        return self.model is not None

    def __call__(self, request: dict[str, Any]) -> tuple[str | None, dict[str, Any]]:
        """Predict ``image`` of the request, the path of a file or of a folder with a DICOM series."""
        if not self.is_valid() or self.model is None:
            raise MONAILabelException(
                MONAILabelError.INVALID_INPUT, "No model was trained yet: train with `fit` first."
            )
        if not isinstance(request["image"], str):
            raise MONAILabelException(
                MONAILabelError.INVALID_INPUT, "image must be a file or a DICOM series, not pixels."
            )
        with _as_label_error(MONAILabelError.INFERENCE_ERROR):
            return self.program.predict(self.model, request["image"], task=self.type.value)


class Train(TrainTask):
    """`movl-monai fit` on the final labels of the datastore; its model then predicts as "trained".

    MONAI Label trains in a process of its own, so the folder alone tells the server of a new model.

    Args:
        program: `movl-monai`.
        folder: one new folder in it for each training.
        settings: further options of the command.
    """

    def __init__(self, program: Program, folder: Path, settings: list[str]) -> None:
        super().__init__("Chooses, trains, evaluates and exports a model within a time budget")
        self.program, self.folder, self.settings = program, folder, settings

    def config(self) -> dict[str, Any]:
        return {"minutes": MINUTES}

    def stats(self) -> dict[str, Any]:
        """Return fit.json of the last training."""
        model = self.model()
        return dict(json.loads((Path(model).parent / "fit.json").read_text(encoding="utf-8"))) if model else {}

    def model(self) -> str | None:
        """Return the exported file of the last training."""
        models = {int(path.parts[-3]): str(path) for path in self.folder.glob("[0-9]*/fit/model.onnx")}
        return models[max(models)] if models else None

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any]:
        number = 1 + max((int(path.name) for path in self.folder.glob("[0-9]*")), default=0)
        with _as_label_error(MONAILabelError.APP_TRAIN_FAILED):
            rows, minutes = labelled(datastore), float(request.get("minutes", MINUTES))
            self.program.fit(rows, self.folder / str(number), minutes=minutes, settings=self.settings)
        return self.stats()


class MoVLApp(MONAILabelApp):
    """The app; `--conf` takes ``model`` (PATH or PATH,PATH), ``movl``, ``output`` and ``settings``."""

    def __init__(self, app_dir: str, studies: str, conf: dict[str, str]) -> None:
        if unknown := [name for name in conf if name not in (*CONF, "server_mode")]:
            text = f"--conf takes {', '.join(CONF)}, got {', '.join(unknown)}."
            raise MONAILabelException(MONAILabelError.APP_INIT_ERROR, text)
        self.program = Program(conf.get("movl") or "movl-monai")
        output = Path(conf.get("output") or Path(app_dir) / "model")
        self.fit = Train(self.program, output, shlex.split(conf.get("settings") or ""))
        about = "Few-label classification and segmentation"
        super().__init__(app_dir, studies, conf, name="movl_monai", description=about)

    def init_infers(self) -> dict[str, InferTask]:
        models = [model for model in (self.conf.get("model") or "").split(",") if model]
        given = {_name(model): Predict(self.program, partial(str, model)) for model in models}
        return given | {"trained": Predict(self.program, self.fit.model)}

    def init_trainers(self) -> dict[str, TrainTask]:
        return {"fit": self.fit}


def labelled(datastore: Datastore) -> list[dict[str, str]]:
    """Return the images with a final label as rows of a manifest.

    The class of an image is ``label`` in the params that its label was saved with; a label without one is a mask.

    Raises:
        ValueError: if there is no label, some are classes and others masks, or an image is a series of several files.
    """
    rows = []
    for image in datastore.get_labeled_images():
        info = datastore.get_label_info(image, DefaultLabelTag.FINAL)
        name = info.get("label") or (info.get("params") or {}).get("label")
        mask = datastore.get_label_uri(image, DefaultLabelTag.FINAL)
        rows.append({"path": _file(datastore.get_image_uri(image)), **({"label": name} if name else {"mask": mask})})
    kinds = Counter("classes" if "label" in row else "masks" for row in rows)
    if len(kinds) != 1:
        found = " and ".join(f"{count} {kind}" for kind, count in kinds.items()) or "none"
        raise ValueError(f"Training needs final labels that are all classes or all masks, got {found}.")
    return rows


def _file(image: str) -> str:
    """Return the only file of a DICOM series, or the path itself."""
    if not Path(image).is_dir():
        return image
    files = [str(path) for path in Path(image).iterdir() if path.is_file()]
    if len(files) != 1:
        raise ValueError(
            f"Training needs images of one file each, got a series of {len(files)}: export the series as NIfTI."
        )
    return files[0]


def _name(model: str) -> str:
    """Return the name of a file, or that of its folder for a file that is called model."""
    path = Path(model)
    return path.absolute().parent.name if path.stem == "model" else path.stem


@contextmanager
def _as_label_error(kind: MONAILabelError) -> Iterator[None]:
    try:
        yield
    except (ProgramError, ValueError) as error:
        raise MONAILabelException(kind, str(error)) from error
