"""A tiny trained run of every bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from monai.bundle import ConfigWorkflow

from movl_monai.phantom import write_phantom
from tests.bundles.conftest import BUNDLES, FAST_OF
from tests.evaluation.masks import write_images

ROOT_OF = {path.name: path for path in BUNDLES}
# what is not as the other tests of the bundles have it: a Transformer that int8 can shrink
SETTINGS: dict[str, dict[str, Any]] = {
    "movl_classification": {},
    "dvpt_classification": {"backbone_name": "test_vit"},
    "dvpt_segmentation": {"mask_class_names": ["background", "organ", "lesion"]},
}


def run_bundle(bundle: str, kind: str, run_id: str, overlays: list[str], **settings: Any) -> None:
    configs = ROOT_OF[bundle] / "configs"
    workflow = ConfigWorkflow(
        config_file=[str(configs / name) for name in ["train.json", *overlays]],
        workflow_type=kind,
        logging_file=False,
        run_id=run_id,
        **settings,
    )
    workflow.initialize()
    workflow.run()
    workflow.finalize()


@pytest.fixture(scope="session")
def data_of(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A data set for every bundle."""
    phantom = tmp_path_factory.mktemp("phantom")
    write_phantom(phantom, patients=(6, 3, 3, 3), images_per_patient=2, size=64)
    masks = write_images(tmp_path_factory.mktemp("masks") / "set", splits=(("train", 6), ("val", 3), ("test", 4)))
    return {"movl_classification": phantom, "dvpt_classification": phantom, "dvpt_segmentation": masks}


@pytest.fixture(scope="session")
def run_of(data_of: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The output folder of one epoch of training for every bundle; the run of DVPT classification is also evaluated."""
    folders: dict[str, Path] = {}
    for bundle, settings in SETTINGS.items():
        folders[bundle] = tmp_path_factory.mktemp("runs") / bundle
        own = {"dataset_dir": str(data_of[bundle]), "output_dir": str(folders[bundle]), **FAST_OF[bundle], **settings}
        run_bundle(bundle, "train", "training", [], **own)
        if bundle == "dvpt_classification":
            run_bundle(bundle, "infer", "evaluating", ["evaluate.json"], **own)
    return folders
