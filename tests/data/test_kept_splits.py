"""The splits of a training: contents and secrets of their file, and images that come back under other names."""

from __future__ import annotations

import csv
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from monai.transforms import Compose
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

from movl_monai.data import Datalist, ImageDataset, read_datalist
from movl_monai.data.kept_splits import KeptImage, KeptSplits, read_kept_splits
from movl_monai.data.make_splits import make_kept_splits
from movl_monai.errors import DataError, LeakageError
from movl_monai.transforms import LoadMedicalImaged, QuantizeImaged, ResizeImaged

CHAIN = Compose(
    [
        LoadMedicalImaged(keys="image", record_key="record"),
        ResizeImaged(keys="image", image_size=64),
        QuantizeImaged(keys="image"),
    ]
)
SPLITS = ("train", "val", "calibration", "test")


def picture(seed: int) -> Image.Image:
    """Smooth blobs, another picture for each seed."""
    noise = np.random.default_rng(seed).integers(0, 256, (9, 9), dtype=np.uint8)
    return Image.fromarray(noise).resize((96, 96), Image.Resampling.BICUBIC)


def write_images(folder: Path, names: dict[str, int]) -> None:
    for name, seed in names.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        picture(seed).save(folder / name)


def write_manifest(folder: Path, rows: list[tuple[str, ...]], columns: str = "path,label,split,patient_id") -> Path:
    with (folder / "manifest.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns.split(","))
        writer.writerows(rows)
    return folder


def read_images(datalist: Datalist, splits: tuple[str, ...] = SPLITS) -> ImageDataset:
    return ImageDataset(datalist.for_evaluation(splits, far=True), CHAIN, max_unreadable=0.5)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Class folders with 2 x 20 images, patients p00 to p19, and the splits of a training on them."""
    folder = tmp_path_factory.mktemp("trained")
    names = {f"{'ab'[i % 2]}/p{i // 2:02d}_{i % 2}.png": i for i in range(40)}
    write_images(folder / "data", names)
    datalist = read_datalist(
        folder / "data",
        patient_pattern="(?P<patient>p[0-9]+)_",
        calibration_fraction=0.4,
        id_map=folder / "local/id.json",
    )
    images = ImageDataset(datalist.for_training(), CHAIN)
    (folder / "splits.csv").write_bytes(make_kept_splits(datalist, images).write())
    return folder / "data", folder / "splits.csv"


def splits_of(datalist: Datalist) -> dict[str, str]:
    return {Path(item["image"]).name: item["split"] for item in datalist}


@pytest.fixture
def known(trained: tuple[Path, Path]) -> dict[str, str]:
    data, kept = trained
    return splits_of(read_datalist(data, patient_pattern="(?P<patient>p[0-9]+)_", kept_splits=kept))


def test_splits_outlive_new_images_and_another_seed(
    trained: tuple[Path, Path], known: dict[str, str], tmp_path: Path
) -> None:
    data, kept = trained
    shutil.copytree(data, tmp_path / "data")
    write_images(tmp_path / "data", {f"{'ab'[i % 2]}/q{i}_0.png": 100 + i for i in range(6)})
    options = {"patient_pattern": "(?P<patient>[pq][0-9]+)_", "kept_splits": kept, "seed": 5}
    found = splits_of(read_datalist(tmp_path / "data", **options))
    assert {name: split for name, split in found.items() if name in known} == known
    assert set(known.values()) == set(SPLITS)
    assert {split for name, split in found.items() if name not in known} == {None}
    asked = splits_of(read_datalist(tmp_path / "data", **options, new_images="test"))
    assert Counter(asked.values()) == Counter(known.values()) + Counter({"test": 6})


def _rename(data: Path, target: Path) -> None:
    for number, file in enumerate(sorted(data.rglob("*.png"))):
        (target / file.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target / file.parent.name / f"x{number * 7 % 40:02d}.png")


def _move(data: Path, target: Path) -> None:
    for file in data.rglob("*.png"):
        folder = target / ("b" if file.parent.name == "a" and file.name < "p05" else file.parent.name)
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, folder / file.name)


def _encode(data: Path, target: Path, suffix: str, **options: int) -> None:
    for number, file in enumerate(sorted(data.rglob("*.png"))):
        (target / file.parent.name).mkdir(parents=True, exist_ok=True)
        Image.open(file).save(target / file.parent.name / f"y{number}{suffix}", **options)


def _halve(data: Path, target: Path) -> None:
    for number, file in enumerate(sorted(data.rglob("*.png"))):
        (target / file.parent.name).mkdir(parents=True, exist_ok=True)
        Image.open(file).resize((48, 48)).save(target / file.parent.name / f"z{number}.png")


def _retouch(data: Path, target: Path) -> None:
    shutil.copytree(data, target)
    for file in sorted(target.rglob("*.png"))[::4]:
        Image.fromarray(np.asarray(Image.open(file))[::-1, ::-1]).save(file)


DISGUISES: dict[str, Callable[[Path, Path], None]] = {
    "renamed": _rename,
    "another class": _move,
    "TIFF": lambda data, target: _encode(data, target, ".tif"),
    "JPEG": lambda data, target: _encode(data, target, ".jpg", quality=90),
    "half the size": _halve,
    "some files changed under their names": _retouch,
}


@pytest.mark.parametrize("disguise", DISGUISES)
def test_a_disguised_data_set_keeps_its_splits(disguise: str, trained: tuple[Path, Path], tmp_path: Path) -> None:
    data, kept = trained
    DISGUISES[disguise](data, tmp_path / "data")
    images = read_images(read_datalist(tmp_path / "data", kept_splits=kept))
    rows = read_kept_splits(kept)
    assert rows is not None
    assert Counter(item["split"] for item in images.data) == Counter(row.split for row in rows.images)


def _as_they_are(files: list[Path], target: Path) -> list[Path]:
    return [Path(shutil.copy(file, target / f"n{number}.png")) for number, file in enumerate(files)]


def _as_jpeg(files: list[Path], target: Path) -> list[Path]:
    made = []
    for number, file in enumerate(files):
        made.append(target / f"n{number}.jpg")
        Image.open(file).save(made[-1], quality=90)
    return made


def _as_dicom(files: list[Path], target: Path) -> list[Path]:
    made = []
    for number, file in enumerate(files):
        made.append(target / f"n{number}.dcm")
        pixels = np.asarray(Image.open(file))
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(), generate_uid()
        dataset.Modality, dataset.PatientID = "OT", f"stranger {number}"
        dataset.Rows, dataset.Columns = pixels.shape
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated = dataset.BitsStored = 8
        dataset.HighBit, dataset.PixelRepresentation = 7, 0
        dataset.PixelData = pixels.tobytes()
        dataset.save_as(made[-1], enforce_file_format=True)
    return made


@pytest.mark.parametrize(
    ("place", "split", "copy", "found"),
    [
        ("test", "train", _as_they_are, "by file"),
        ("test", "calibration", _as_jpeg, "by look"),
        ("test", "val", _as_dicom, "by pixels"),
        ("ood", "val", _as_they_are, "by file"),
        ("ood", "train", _as_jpeg, "by look"),
        ("ood", "train", _as_dicom, "by pixels"),
        ("far", "train", _as_they_are, "by file"),
        ("far", "calibration", _as_jpeg, "by look"),
    ],
)
def test_learned_images_are_not_scored(
    copy: Callable[[list[Path], Path], list[Path]],
    found: str,
    split: str,
    place: str,
    trained: tuple[Path, Path],
    known: dict[str, str],
    tmp_path: Path,
) -> None:
    data, kept = trained
    files = [file for file in sorted(data.rglob("*.png")) if known[file.name] == split][:2]
    (tmp_path / "other").mkdir()
    copies = copy(files, tmp_path / "other")
    write_images(tmp_path / "other", {"a.png": 90, "b.png": 91})
    names = [*(file.name for file in copies), "a.png", "b.png"]
    write_manifest(tmp_path / "other", [(name, "ab"[i % 2], "test", "") for i, name in enumerate(names)])
    options = {"ood": {"ood_dataset_dirs": [tmp_path / "other"]}, "far": {"far_dataset_dirs": [tmp_path / "other"]}}
    source = tmp_path / "other" if place == "test" else data
    with pytest.raises(LeakageError, match=f"2 images would be scored as test.*2 {found}") as caught:
        read_images(
            read_datalist(
                source,
                class_names=["a", "b"],
                kept_splits=kept,
                id_map=tmp_path / "local/i.json",
                **options.get(place, {}),
            )
        )
    assert caught.value.exit_code == 3
    listed = (tmp_path / "local/leakage.csv").read_text()
    assert all(str(file) in listed for file in copies)
    assert not any(file.name in str(caught.value) for file in copies)


def test_swapped_splits_of_a_manifest_are_refused(
    trained: tuple[Path, Path], known: dict[str, str], tmp_path: Path
) -> None:
    data, kept = trained
    swap = {"train": "test", "test": "train"}
    rows = [(str(f), f.parent.name, swap.get(known[f.name], known[f.name]), "") for f in sorted(data.rglob("*.png"))]
    write_manifest(tmp_path, rows)
    count = sum(split == "train" for split in known.values())
    with pytest.raises(LeakageError, match=f"{count} images would be scored.*{count} by file"):
        read_datalist(tmp_path, kept_splits=kept)


@pytest.mark.parametrize("spelling", ["p{:02d}", " P{:02d} ", "P{}", "p{:03d}", "|p{:02d}"])
def test_learned_patients_are_found_however_they_are_spelled(
    spelling: str, trained: tuple[Path, Path], known: dict[str, str], tmp_path: Path
) -> None:
    _, kept = trained
    number = next(int(name[1:3]) for name, split in known.items() if split == "val")
    write_images(tmp_path, {"a.png": 90, "b.png": 91})
    rows = [("a.png", "a", "test", spelling.format(number)), ("b.png", "b", "test", "somebody else")]
    write_manifest(tmp_path, rows)
    with pytest.raises(LeakageError, match=r"1 by patient.*--allow_patient_overlap true"):
        read_datalist(tmp_path, kept_splits=kept)
    assert len(read_datalist(tmp_path, kept_splits=kept, allow_patient_overlap=True).select("test")) == 2


def test_patients_are_known_by_their_images_under_other_ids(
    trained: tuple[Path, Path], known: dict[str, str], tmp_path: Path
) -> None:
    data, kept = trained
    file = next(file for file in sorted(data.rglob("*.png")) if known[file.name] == "train")
    write_images(tmp_path, {"new.png": 90})
    write_manifest(tmp_path, [(str(file), "a", "", "renumbered"), ("new.png", "b", "test", "renumbered")])
    with pytest.raises(LeakageError, match="1 by patient"):
        read_datalist(tmp_path, kept_splits=kept, class_names=["a", "b"])


def test_a_copy_beside_its_original_is_in_no_split(
    trained: tuple[Path, Path], known: dict[str, str], tmp_path: Path
) -> None:
    data, kept = trained
    shutil.copytree(data, tmp_path / "data")
    file = next(file for file in sorted(data.rglob("*.png")) if known[file.name] == "val")
    shutil.copy(file, tmp_path / "data/a/a copy.png")
    found = splits_of(read_datalist(tmp_path / "data", kept_splits=kept))
    assert found["a copy.png"] is None
    assert found[file.name] == "val"
    with pytest.raises(LeakageError, match="1 by file"):
        read_datalist(tmp_path / "data", kept_splits=kept, new_images="test")


def test_names_and_looks_of_other_data_raise_no_alarm(trained: tuple[Path, Path], tmp_path: Path) -> None:
    data, kept = trained
    names = {f"{file.parent.name}/{file.name}": 500 + i for i, file in enumerate(sorted(data.rglob("*.png")))}
    write_images(tmp_path / "hospital", names)
    images = read_images(read_datalist(tmp_path / "hospital", kept_splits=kept, new_images="test"))
    assert [item["split"] for item in images.data] == ["test"] * 40
    with pytest.raises(DataError, match=r"no test image: 40 images.*--new_images test"):
        read_images(read_datalist(tmp_path / "hospital", kept_splits=kept))


def test_the_file_names_no_path_and_no_patient(trained: tuple[Path, Path]) -> None:
    text = (kept := trained[1]).read_text()
    assert "p00" not in text
    assert "png" not in text
    again = KeptSplits([])  # another salt, other codes
    assert again.content_code("0") != KeptSplits.parse(kept.read_bytes()).content_code("0")


def test_a_guess_costs_what_the_file_says() -> None:
    kept = KeptSplits([KeptImage(image="", split="train")], salt=b"0123456789abcdef", cost=(2, 8, 1))
    again = KeptSplits.parse(kept.write())
    assert (again.salt, again.cost) == (kept.salt, kept.cost)
    assert again.patient_code("7") == kept.patient_code("007") != kept.patient_code("8")
    assert KeptSplits([], salt=kept.salt).patient_code("7") != kept.patient_code("7")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is damaged"),
        (b"image,split\n1,train\n", "is damaged"),
        (KeptSplits([]).write(), "is damaged"),
        (KeptSplits([KeptImage(image="1", split="tset")]).write(), "is damaged"),
        (KeptSplits([KeptImage(image="1", split="test")]).write().replace(b"format 1", b"format 9"), "has format 9"),
        (b"\xff\xfe\x00", "is damaged"),
    ],
)
def test_damaged_splits_are_refused(content: bytes, says: str) -> None:
    with pytest.raises(DataError, match=says):
        KeptSplits.parse(content)


@pytest.mark.parametrize("lost", [True, False])
def test_splits_that_the_record_names_must_be_there(lost: bool, trained: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"splits_sha256": "%s"}' % ("0" * 64))
    if not lost:
        shutil.copy(trained[1], tmp_path / "splits.csv")
    with pytest.raises(DataError, match="is missing" if lost else "is not the file"):
        read_kept_splits(tmp_path / "splits.csv")
