"""One entry for every format: dispatch by bytes, frames chosen, records without patients, workers."""

from __future__ import annotations

import io
import json
import pickle
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import Compose
from PIL import Image
from pydicom.data import get_testdata_file
from torch.utils.data import DataLoader

from movl_monai.readers import Limits, MedicalImageError, read_dicom, read_nifti_slice, read_raster
from movl_monai.transforms import LoadMedicalImage, LoadMedicalImaged, QuantizeImaged, ResizeImaged
from movl_monai.transforms import load as load_module
from tests.readers.refusals import refused

VOLUME = np.random.default_rng(0).normal(0, 500, (6, 7, 4)).astype(np.float32)


@pytest.fixture
def nifti_path(tmp_path: Path) -> Path:
    path = tmp_path / "DOE^JANE.dcm"
    path.write_bytes(nib.Nifti1Image(VOLUME, np.eye(4)).to_bytes())
    return path


@pytest.fixture
def png_path(tmp_path: Path) -> Path:
    path = tmp_path / "image.nii.gz"
    Image.fromarray(np.arange(24, dtype=np.uint8).reshape(4, 6)).save(path, "PNG")
    return path


def test_load_medical_image_goes_by_the_bytes_and_not_the_suffix(nifti_path: Path, png_path: Path) -> None:
    load = LoadMedicalImage(nifti_range="minmax", slice_axis="coronal")
    expected = read_nifti_slice(nifti_path, slice_index=2, axis="coronal", intensity="minmax")
    image, record = load.read(nifti_path, 2)
    assert np.array_equal(image.numpy(), expected[0])
    assert record == expected[1]
    assert torch.equal(load(png_path), torch.from_numpy(read_raster(png_path)[0]))


def test_load_medical_image_gives_plain_contiguous_float32_tensors(nifti_path: Path) -> None:
    image = LoadMedicalImage()(nifti_path, 0)
    assert type(image) is torch.Tensor
    assert image.dtype == torch.float32
    assert image.is_contiguous()


def test_options_reach_every_reader(tmp_path: Path, nifti_path: Path, png_path: Path) -> None:
    Image.fromarray(np.full((2, 2), 5, dtype=np.float32)).save(tmp_path / "float.tiff")
    assert LoadMedicalImage(value_range=(0, 10))(tmp_path / "float.tiff").unique().tolist() == [0.5]
    windows = LoadMedicalImage(nifti_range="ct", ct_windows=[[400, 40]])
    assert windows.read(nifti_path, 0)[1]["windows"] == [[400, 40]] * 3
    narrow = LoadMedicalImage(nifti_percentiles=(10, 90)).read(nifti_path, 0)[1]
    assert narrow["range"] == pytest.approx(np.percentile(VOLUME, (10, 90)).tolist())
    for limited, path in (
        (LoadMedicalImage(max_pixels=10), png_path),
        (LoadMedicalImage(limits={"values": 9}), nifti_path),
    ):
        with refused("too_large", "Expected at most"):
            limited(path, 0)
    assert LoadMedicalImage(limits=Limits(values=9)).limits == LoadMedicalImage(limits={"values": 9}).limits


def test_a_volume_without_a_chosen_slice_is_an_error_that_says_how_many_there_are(nifti_path: Path) -> None:
    with refused("multi_frame", "got 4 axial slices; give frame=0 to frame=3"):
        LoadMedicalImage()(nifti_path)


def test_frames_are_counted_in_every_format(nifti_path: Path, png_path: Path, tmp_path: Path) -> None:
    load = LoadMedicalImage(slice_axis="sagittal")
    dicom = get_testdata_file("examples_ybr_color.dcm", download=False)
    assert [load.frame_count(path) for path in (nifti_path, png_path, dicom)] == [6, 1, 30]
    (tmp_path / "text").write_text("name,label")
    with pytest.raises(MedicalImageError, match="of none of them"):
        load.frame_count(tmp_path / "text")


def test_dicom_is_read_by_the_dicom_reader() -> None:
    path = get_testdata_file("CT_small.dcm", download=False)
    expected, record = read_dicom(path, ct_windows=["brain"])
    image, found = LoadMedicalImage(ct_windows=["brain"]).read(path)
    assert np.array_equal(image.numpy(), expected)
    assert found == {"format": "dicom"} | record


def test_unknown_bytes_are_refused_without_the_path(tmp_path: Path) -> None:
    (tmp_path / "DOE^JANE.dcm").write_bytes(b"\x80\x04\x95 a pickle")
    with refused("unsupported_format", "first bytes are of none of them") as caught:
        LoadMedicalImage()(tmp_path / "DOE^JANE.dcm")
    assert "DOE" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nifti_range": "z"}, "intensity must be one of percentile, minmax, ct, got 'z'"),
        ({"nifti_percentiles": (99, 1)}, r"percentiles must be \(lower, upper\)"),
        ({"slice_axis": "oblique"}, "axis must be one of axial, coronal, sagittal"),
        ({"ct_windows": ["bones"]}, "bones"),
        ({"limits": {"values": 0}}, "values must be > 0"),
    ],
)
def test_wrong_options_are_refused_at_once(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LoadMedicalImage(**options)


def test_reading_the_slices_of_a_volume_in_turn_decompresses_it_once(
    nifti_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    original = load_module.read_nifti
    monkeypatch.setattr(load_module, "read_nifti", lambda *args, **kwargs: calls.append(1) or original(*args, **kwargs))
    load = LoadMedicalImage()
    slices = [load(nifti_path, index) for index in range(4)]
    assert len(calls) == 1
    assert torch.equal(slices[3], LoadMedicalImage()(nifti_path, 3))
    nifti_path.write_bytes(nib.Nifti1Image(-VOLUME[:, :, :3], np.eye(4)).to_bytes())
    assert not torch.equal(load(nifti_path, 0), slices[0])


def test_load_medical_image_pickles_small_even_after_a_volume(nifti_path: Path) -> None:
    load = LoadMedicalImage(nifti_range="minmax")
    image = load(nifti_path, 1)
    data = pickle.dumps(load)
    assert len(data) < 1000
    assert torch.equal(pickle.loads(data)(nifti_path, 1), image)


def test_the_dictionary_twin_takes_the_frame_and_gives_the_record(nifti_path: Path, png_path: Path) -> None:
    load = LoadMedicalImaged("image", record_key="record", frame_key="slice", nifti_range="minmax")
    result = load({"image": str(nifti_path), "slice": 2, "label": 1})
    assert torch.equal(result["image"], LoadMedicalImage(nifti_range="minmax")(nifti_path, 2))
    assert result["record"]["frame"] == 2
    assert result["label"] == 1
    both = LoadMedicalImaged(["image", "other"], record_key="record")({"image": png_path, "other": png_path})
    assert torch.equal(both["image"], both["other"])
    assert {"record_image", "record_other"} <= set(both)
    assert set(LoadMedicalImaged()({"image": png_path, "frame": None})) == {"image", "frame"}


def test_records_are_json_and_hold_nothing_of_the_path(nifti_path: Path, png_path: Path) -> None:
    for path in (nifti_path, png_path):
        text = json.dumps(LoadMedicalImage().read(path, 0)[1])
        assert "DOE" not in text
        assert str(path.parent) not in text


def test_the_chain_runs_in_data_loader_workers(nifti_path: Path, png_path: Path) -> None:
    chain = Compose([LoadMedicalImaged(), ResizeImaged("image", 8, mode="pad"), QuantizeImaged()])
    items = [{"image": str(nifti_path), "frame": 1}, {"image": str(png_path), "frame": 0}]
    loaded = DataLoader([chain(item) for item in items], batch_size=2)
    parallel = DataLoader(_Mapped(items, chain), batch_size=2, num_workers=1, multiprocessing_context="fork")
    for one, other in zip(loaded, parallel, strict=True):
        assert one["image"].shape == (2, 3, 8, 8)
        assert torch.equal(one["image"], other["image"])


class _Mapped(torch.utils.data.Dataset):
    def __init__(self, items: list[dict], chain: Compose) -> None:
        self.items, self.chain = items, chain

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict:
        return self.chain(self.items[index])


def test_file_objects_are_read_from_the_beginning() -> None:
    file = io.BytesIO()
    Image.new("L", (3, 2), 255).save(file, "PNG")
    assert file.tell() > 0
    assert torch.equal(LoadMedicalImage()(file), torch.ones(3, 2, 3))
    assert torch.equal(LoadMedicalImage()(file), torch.ones(3, 2, 3))


def test_an_image_that_does_not_fit_into_memory_has_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_: object, **__: object) -> None:
        raise MemoryError("/data/jane_doe.png")

    monkeypatch.setattr("movl_monai.transforms.load.read_raster", no_memory)
    file = io.BytesIO()
    Image.new("L", (4, 2)).save(file, "PNG")
    with refused("too_large", "fits into memory") as caught:
        LoadMedicalImage()(file)
    assert caught.value.__suppress_context__
