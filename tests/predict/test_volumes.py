"""Millilitres, flags and masks of regular and irregular series with masks of known size, predicted by the command."""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import highdicom as hd
import nibabel as nib
import numpy as np
import pytest
import torch

from movl_monai.cli import main
from movl_monai.data import IdMap
from movl_monai.engines import open_run
from movl_monai.predict.listing import list_images
from movl_monai.predict.run import predict
from tests.readers.dicom.objects import as_file
from tests.readers.segmentations import AXIAL, SPACE, slice_object

ROWS, COLUMNS = 24, 20
AREA = ROWS * COLUMNS * 0.5 * 0.75
"""Of a slice in mm2."""
COSINE, SINE = np.cos(np.radians(20)), np.sin(np.radians(20))
TILTED = (1, 0, 0, 0, float(COSINE), float(SINE))


class Series(NamedTuple):
    """A series and its expected results.

    Args:
        places: positions of the slices along the table, in mm.
        length: sum of the thicknesses of the slices, in mm along their normal.
        flags: expected flags of the row.
        shifts: shifts of the slices along their rows, in mm.
        orientation: ImageOrientationPatient.
    """

    places: Sequence[float]
    length: float
    flags: Sequence[str] = ()
    shifts: Sequence[float] = (0,) * 6
    orientation: Sequence[float] = AXIAL


EVEN = (0, 3, 6, 9, 12, 15)
IRREGULAR = {
    "gap": Series((0, 3, 6, 27, 30, 33), 18, ["gap", "variable_spacing"]),
    "one slice missing": Series((0, 2.5, 7.5, 10), 10, ["gap", "variable_spacing"]),
    "variable": Series((0, 1, 3, 6, 10, 12), 1 + 1.5 + 2.5 + 3.5 + 3 + 2, ["gap", "variable_spacing"]),
    "one slice shifted": Series(EVEN, 18, ["uneven_shift"], shifts=(0, 0, 4, 0, 0, 0)),
}
REGULAR = {
    "regular": Series(EVEN, 18),
    "tilted gantry": Series(EVEN, 18 * COSINE, ["sheared", "oblique"], orientation=TILTED),
    "sheared": Series(EVEN, 18, ["sheared", "oblique"], shifts=np.multiply(EVEN, 29.9).tolist()),
}
CASES = REGULAR | IRREGULAR


@pytest.fixture(scope="module")
def run_of_one_class(segmenter_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose mask covers every pixel, so that the mask has the volume of its series."""
    folder = tmp_path_factory.mktemp("constant") / "run"
    shutil.copytree(segmenter_run, folder)
    run = open_run(folder)
    network: Any = run.network()
    last = getattr(network.head, "classifier", network.head)
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(torch.tensor([-9.0, 9.0]))
    torch.save(network.state_dict(), run.checkpoint)
    return folder


def write_series(
    folder: Path, series: Series, *, number: int = 1, changes: Mapping[int, dict[str, Any]] | None = None
) -> None:
    """Write the files of a series; ``changes`` holds tags of single slices, by number."""
    folder.mkdir(parents=True)
    gradient = np.add.outer(20 * np.arange(ROWS), 30 * np.arange(COLUMNS))
    for index, (place, shift) in enumerate(zip(series.places, series.shifts, strict=False)):
        tags = {"StudyInstanceUID": f"{SPACE}.{number}", "SeriesInstanceUID": f"{SPACE}.{number}.1"}
        file = slice_object(gradient + index, (shift, 0, place), series.orientation, **tags)
        for keyword, value in (changes or {}).get(index, {}).items():
            setattr(file, keyword, value)
        as_file(file, folder / f"{index:02d}.dcm")


def command(run: Path, source: Path, out: Path, outputs: str = "csv,json") -> tuple[int, list[dict[str, str]]]:
    """Predict with the command line; return the exit code and the rows of the table."""
    settings = ["--workers", "0", "--device", "cpu", "--batch_size", "8", "--outputs", outputs]
    code = main(["predict", str(run), str(source), "--out", str(out), *settings])
    with (out / "predictions.csv").open(newline="", encoding="utf-8") as stream:
        return code, list(csv.DictReader(stream))


@pytest.mark.parametrize("name", CASES)
def test_the_row_of_a_series_has_its_millilitres_flags_and_files(
    name: str, run_of_one_class: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    series = CASES[name]
    write_series(tmp_path / "in", series)
    code, (row,) = command(run_of_one_class, tmp_path / "in", tmp_path / "out", "csv,json,seg,sc,nifti")
    count, is_irregular = len(series.places), name in IRREGULAR
    assert (row["status"], int(row["images"]), int(row["pixels_hippocampus"])) == ("ok", count, count * ROWS * COLUMNS)
    assert float(row["ml_hippocampus"]) == pytest.approx(AREA * series.length / 1000, abs=2e-6)
    assert row.get("flags", "") == "|".join(series.flags)
    assert row.get("not_written", "") == ("nifti:irregular_spacing" if is_irregular else "")
    assert code == (4 if is_irregular else 0)
    (result,) = json.loads((tmp_path / "out/predictions.json").read_text())["results"]
    assert result["ml_hippocampus"] == float(row["ml_hippocampus"])
    assert result.get("flags", []) == list(series.flags)
    assert result.get("not_written", []) == (["nifti:irregular_spacing"] if is_irregular else [])
    said = capsys.readouterr().out
    assert all(f"{flag} 1" in said for flag in series.flags)
    # what lies on the files is written whatever their distances
    assert len(list((tmp_path / "out/sc").iterdir())) == count
    (path,) = (tmp_path / "out/seg").iterdir()
    made = hd.seg.segread(path)
    frames = made.PerFrameFunctionalGroupsSequence
    found = np.array([frame.PlanePositionSequence[0].ImagePositionPatient for frame in frames], dtype=float)
    expected = np.column_stack([series.shifts[:count], np.zeros(count), series.places])
    np.testing.assert_allclose(found[found[:, 2].argsort()], expected, atol=1e-6)
    assert made.pixel_array.all()
    measures = made.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert ("SpacingBetweenSlices" in measures) == (name == "regular")
    assert (tmp_path / "out/masks").exists() != is_irregular


@pytest.mark.parametrize("name", REGULAR)
def test_a_nifti_mask_lies_where_the_pixels_of_the_files_do(name: str, run_of_one_class: Path, tmp_path: Path) -> None:
    series = REGULAR[name]
    write_series(tmp_path / "in", series)
    command(run_of_one_class, tmp_path / "in", tmp_path / "out", "csv,nifti")
    (path,) = (tmp_path / "out/masks").iterdir()
    mask: Any = nib.load(path)
    for index, (place, shift) in enumerate(zip(series.places, series.shifts, strict=True)):
        for row, column in ((0, 0), (ROWS - 1, 3), (5, COLUMNS - 1)):
            along, down = np.reshape(series.orientation, (2, 3))
            expected = np.array([shift, 0, place]) + along * 0.75 * column + down * 0.5 * row
            found = nib.affines.apply_affine(mask.affine, [column, row, index]) * [-1, -1, 1]
            np.testing.assert_allclose(found, expected, atol=1e-3)
    volume = np.count_nonzero(mask.dataobj) * abs(np.linalg.det(mask.affine[:3, :3])) / 1000
    assert volume == pytest.approx(AREA * series.length / 1000, rel=1e-5)
    # a qform holds no shear
    assert (int(mask.header["qform_code"]) > 0, int(mask.header["sform_code"]) > 0) == (name == "regular", True)
    # and the mask, read as a volume itself, says the same
    _, (said,) = command(run_of_one_class, path, tmp_path / "again")
    assert float(said["ml_hippocampus"]) == pytest.approx(volume, rel=1e-5)
    assert {*said.get("flags", "").split("|")} - {"", "constant", "blank", "nearly_black"} == {*series.flags}


_WITHIN: dict[
    int, dict[str, Any]
] = {  # of the tolerances of 0.001 and 0.1 %, and at boundaries of rounding to three digits
    0: {"PixelSpacing": [0.5004, 0.75]},
    2: {"ImageOrientationPatient": [1, 0.000499, 0, -0.000499, 1, 0]},
    3: {"ImageOrientationPatient": [1, 0.000501, 0, -0.000501, 1, 0], "PixelSpacing": [0.4997, 0.7504]},
    4: {"PixelSpacing": [0.50049, 0.75]},
}


def test_slices_within_the_tolerance_are_one_volume_with_the_same_id_at_every_reading(
    run_of_one_class: Path, tmp_path: Path
) -> None:
    write_series(tmp_path / "in/a", REGULAR["regular"], changes=_WITHIN)
    write_series(tmp_path / "in/b", REGULAR["regular"], number=2, changes={3: {"PixelSpacing": [0.6, 0.75]}})
    found = []
    for name in ("first", "second"):
        ids = IdMap(tmp_path / name / "id_map.json", salt="0123456789abcdef")
        found.append(list_images(tmp_path / "in", id_map=ids, volumes=True))
    assert found[0].items == found[1].items
    cases = Counter(item["case"] for item in found[0].items)
    assert sorted(cases.values()) == [1, 5, 6]  # one slice of b is beyond the tolerance

    code, rows = command(run_of_one_class, tmp_path / "in", tmp_path / "out", "csv,seg")
    assert code == 0  # nor do the segmentations want them equal
    assert sorted((row["status"], row["images"]) for row in rows) == [("ok", "1"), ("ok", "5"), ("ok", "6")]
    before = (tmp_path / "out/predictions.csv").read_bytes()
    again = predict(
        run_of_one_class, tmp_path / "in", out=tmp_path / "out", outputs=["csv", "seg"], num_workers=0, device="cpu"
    )
    assert again is not None
    assert again.resumed == 12
    assert (tmp_path / "out/predictions.csv").read_bytes() == before


def test_a_slice_that_comes_back_within_the_tolerance_keeps_the_id_of_its_volume(
    run_of_one_class: Path, tmp_path: Path
) -> None:
    ids = set()
    states: dict[str, dict[int, dict[str, Any]]] = {"as it was": {}, "changed": {2: {"PixelSpacing": [0.5004, 0.75]}}}
    for name, changes in states.items():
        shutil.rmtree(tmp_path / "in", ignore_errors=True)
        write_series(tmp_path / "in", REGULAR["regular"], changes=changes)
        _, (row,) = command(run_of_one_class, tmp_path / "in", tmp_path / "out")
        assert (row["status"], row["images"]) == ("ok", "6"), name
        ids.add(row["id"])
    assert len(ids) == 1
