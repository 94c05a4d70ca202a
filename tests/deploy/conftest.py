"""Exported files of tiny runs, and images as an archive sends them."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import movl_monai.deploy.sdk as sdk  # before anything imports monai: it finds the CUDA runtime that Holoscan needs

# isort: split
import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import CTImageStorage, DigitalXRayImageStorageForPresentation, generate_uid

from movl_monai.phantom import write_phantom
from tests.predict.conftest import ROOT, make_run
from tests.readers.dicom.objects import as_file, grey_object

DX = DigitalXRayImageStorageForPresentation
Run = Callable[..., tuple[int, Path]]


@pytest.fixture(scope="session")
def with_sdk() -> None:
    """Skip with a reason if the SDK is not installed."""
    try:
        sdk.require_sdk()
    except sdk.SdkMissingError:
        pytest.skip("the MONAI Deploy App SDK is not in this environment: `make deploy-test` makes one with it")


@pytest.fixture(scope="session")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom")
    write_phantom(folder, patients=(0, 0, 2, 0), images_per_patient=2, size=64)
    return folder / "images"


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory, phantom: Path) -> dict[str, Path]:
    """A run and its exported file (`<bundle>.ts`), by bundle."""
    from movl_monai.export.exporting import export_run

    folder = tmp_path_factory.mktemp("models")
    found: dict[str, Path] = {}
    settings: dict[str, dict[str, Any]] = {
        "movl_classification": {"class_names": ["no_lesion", "lesion"], "prompt_width": 4},
        "dvpt_segmentation": {"class_names": ["background", "hippocampus"], "decoder_width": 16},
    }
    for bundle, options in settings.items():
        found[bundle] = make_run(folder / bundle, bundle, **options)
        found[f"{bundle}.ts"] = folder / f"{bundle}.ts"
        export_run(found[bundle], "torchscript", output=found[f"{bundle}.ts"], images=[phantom])
    return found


def application(bundle: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"{bundle}_app", ROOT / "bundles" / bundle / "deploy" / "app.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.App


@pytest.fixture
def run(models: dict[str, Path], tmp_path: Path) -> Run:
    """Run a bundle's application on `tmp_path/in`."""

    def start(bundle: str, *, model: Path | None = None) -> tuple[int, Path]:
        from movl_monai.deploy import main

        out = tmp_path / "out"
        code = main(
            application(bundle),
            ["-i", str(tmp_path / "in"), "-o", str(out), "-m", str(model or models[f"{bundle}.ts"])],
        )
        return code, out

    return start


def radiograph(path: Path, image: np.ndarray, *, study: str = "study", series: str = "series", **tags: Any) -> None:
    """Wrap a grey picture as a DX image with a single instance in its series."""
    _write(path, grey_object(image, sop_class=DX, modality="DX", **tags), study=study, series=series)


def two_series(folder: Path) -> None:
    """A study with two series that match."""
    radiograph(folder / "1.dcm", gradient(), series="one")
    radiograph(folder / "2.dcm", gradient(), series="two")


def without_decoder(path: Path) -> None:
    """Change the transfer syntax of a file to MPEG2, which no decoder reads."""
    video = dcmread(path)
    video.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.100"
    video.PixelData = encapsulate([b"\0" * 64])
    video["PixelData"].is_undefined_length = True
    video.save_as(path)


def ct_series(folder: Path, *, count: int = 3, study: str = "study", series: str = "series", **tags: Any) -> None:
    """A series of axial slices of a ball; stored in reverse order, with non-square pixels."""
    folder.mkdir(parents=True, exist_ok=True)
    rows, columns = np.mgrid[:40, :48]
    for number in range(count):
        inside = (rows - 15) ** 2 + (columns - 30) ** 2 < (6 + 2 * number) ** 2
        slice_ = grey_object(
            np.where(inside, 1060, 100 + 10 * columns).astype(np.int16),
            sop_class=CTImageStorage,
            modality="CT",
            RescaleSlope=1,
            RescaleIntercept=-1024,
            PixelSpacing=[0.8, 0.5],
            SliceThickness=2,
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            ImagePositionPatient=[-10, -20, 2.0 * number],
            FrameOfReferenceUID=generate_uid(entropy_srcs=[study, "frame"]),
            InstanceNumber=count - number,
        )
        for keyword, value in tags.items():
            setattr(slice_, keyword, value)
        _write(folder / f"{series}{count - number}.dcm", slice_, study=study, series=series)


def _write(path: Path, image: Dataset, *, study: str, series: str) -> None:
    image.StudyInstanceUID = generate_uid(entropy_srcs=["study", study])
    image.SeriesInstanceUID = generate_uid(entropy_srcs=["series", study, series])
    image.SOPInstanceUID = generate_uid(entropy_srcs=["instance", study, series, path.name])
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    image.PatientName, image.PatientID, image.SeriesDescription = "Doe^Jane", "ID4711", "Secret description"
    path.parent.mkdir(parents=True, exist_ok=True)
    as_file(image, path)


def gradient(size: int = 64) -> np.ndarray:
    """A picture that reveals errors in orientation or polarity."""
    rows, columns = np.mgrid[:size, :size]
    return ((rows * 3 + columns) % 256).astype(np.uint8)
