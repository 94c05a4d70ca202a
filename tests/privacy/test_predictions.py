"""Prediction, export and the listener write nothing that identifies a patient, except links to the source."""

from __future__ import annotations

import json
import logging
import shutil
import stat
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread

from movl_monai.readers.dicom.quiet import quiet
from tests.predict.conftest import make_run
from tests.privacy.objects import check_objects, headers, planted_elements, search_of
from tests.privacy.plant import PATH, TAG, TAG_DATE, TAG_TIME, TAG_UID, plant_folder, plant_odd, plant_series
from tests.privacy.runs import WORDS, Runs
from tests.privacy.search import Search
from tests.readers.dicom.objects import as_file, grey_object

CLASSES = ["no_lesion", "lesion"]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """A folder of planted words, and their number."""
    folder = tmp_path_factory.mktemp("planted") / f"{PATH}_HOSPITAL"
    count = plant_folder(folder, patients=4)
    return folder, count + plant_series(folder / f"{PATH} SERIES") + plant_odd(folder / f"{PATH} ODD")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, images: tuple[Path, int]) -> Runs:
    """All commands that predict and export, including commands that fail."""
    runs = Runs(folder=tmp_path_factory.mktemp("predictions"), planted=images[1])
    make_run(runs.folder / "classifier", "movl_classification", CLASSES, prompt_width=4)
    make_run(runs.folder / "segmenter", "dvpt_segmentation", ["background", "lesion"], decoder_width=16)
    runs.run_commands("commands", _commands(images[0], runs.folder))
    return runs


def _commands(images: Path, out: Path) -> dict[str, list[str]]:
    classifier, segmenter = str(out / "classifier"), str(out / "segmenter")

    def predict(model: str, folder: str, outputs: str, *more: str, source: Path = images) -> list[str]:
        return ["predict", model, str(source), "--out", str(out / folder), "--outputs", outputs, *more]

    def export(run: str, name: str, *more: str, source: Path = images) -> list[str]:
        return ["export", run, "--output", str(out / name), "--images", str(source), *more]

    of_classes, of_masks = "csv,json,sr,sc,png", "csv,json,seg,sc,nifti,png"
    here = ["--workers", "0", "--device", "cpu"]
    return {
        "classification": predict(classifier, "classified", of_classes, *here),
        "resumed": predict(classifier, "classified", of_classes, *here),
        "segmentation": predict(segmenter, "segmented", of_masks, "--workers", "1", "--device", "cpu"),
        "torchscript": export(classifier, "classifier.ts", "--format", "torchscript"),
        "onnx": export(segmenter, "segmenter.onnx"),
        "exported": predict(str(out / "classifier.ts"), "exported", "csv", "--workers", "0"),
        "one series": predict(classifier, "one", "csv,json", *here, "--series", "one", "--modalities", "CT"),
        "no folder": predict(classifier, "none", "csv", source=images / "missing"),
        "out in input": predict(classifier, str(images / "out"), "csv"),
        "traceback": ["--traceback", *predict(classifier, "traced", "csv", source=images / "missing")],
        "wrong output": predict(classifier, "wrong", "seg"),
        "export without images": export(classifier, "none.onnx", source=images / "missing"),
    }


@pytest.mark.slow
def test_what_should_be_predicted_is_and_what_should_fail_fails(runs: Runs) -> None:
    told = runs.said["stderr of commands"].decode(errors="replace")
    for name in ("classification", "resumed", "segmentation", "exported", "one series"):
        assert runs.codes[name] == 4, (name, told)  # some of the files are broken on purpose
    for name in ("torchscript", "onnx"):
        assert runs.codes[name] == 0, (name, told)
    for name in ("no folder", "out in input", "traceback", "wrong output", "export without images"):
        assert runs.codes[name] not in (0, 4), name
    for pattern in (
        *("classified/sr/*.dcm", "classified/sc/*.dcm", "classified/pictures/*.png", "classified/predictions.json"),
        *("segmented/seg/*.dcm", "segmented/sc/*.dcm", "segmented/masks/*.nii.gz", "segmented/masks/*.png"),
        *("classifier.ts", "segmenter.onnx", "exported/predictions.csv", "classified/local/journal.jsonl"),
    ):
        assert list(runs.folder.glob(pattern)), pattern


@pytest.mark.slow
def test_no_planted_word_is_in_what_is_said_or_written(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    search = search_of(runs.folder)
    told = runs.searched(search)
    with capsys.disabled():
        print(told)
    assert not search.hits, "\n".join(search.hits[:20])
    assert not runs.uids()
    assert runs.planted > 10_000
    assert search.files > 50


@pytest.mark.slow
def test_two_files_of_local_have_paths_and_only_their_owner_can_read_them(runs: Runs) -> None:
    search = Search(WORDS)
    places = [path for path in runs.folder.rglob("local") if path.is_dir()]
    for place in places:
        search.folder(place)
        for name in ("id_map.json", "files.csv"):
            assert not (place / name).is_file() or stat.S_IMODE((place / name).stat().st_mode) == 0o600
    assert len(places) >= 4
    holders = {(hit.split(" in ")[1].split(" at ")[0], hit.split(" in ")[0]) for hit in search.hits}
    assert holders == {("id_map.json", PATH), ("files.csv", PATH)}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sr", "sc", "seg"])
def test_derived_objects_have_of_their_source_only_what_the_rule_copies(
    kind: str, runs: Runs, images: tuple[Path, int]
) -> None:
    paths = sorted(runs.folder.rglob(f"{kind}/*.dcm"))
    places = check_objects(paths, headers(images[0]))
    assert {("PatientName",), ("PatientID",), ("StudyInstanceUID",), ("AccessionNumber",)} <= places
    assert any(where[-1] == "ReferencedSOPInstanceUID" for where in places)
    for path in paths:
        with quiet():
            dataset = dcmread(path)
            description, tags = dataset.SeriesDescription, [element.tag for element in dataset]
        assert "research use only" in description.lower()
        assert not [tag for tag in tags if tag.is_private]


@pytest.mark.slow
def test_pictures_do_not_depend_on_who_it_is(runs: Runs, images: tuple[Path, int], tmp_path: Path) -> None:
    """Equal pixels of different patients give equal pictures: nothing about a patient is drawn."""
    from movl_monai.predict.run import predict

    planted = sorted(images[0].glob(f"{PATH} DOE */*.dcm"))
    for number, path in enumerate(planted):
        source = dcmread(path)
        clean = grey_object(source.pixel_array, sop_class=source.SOPClassUID, modality="MR", bits_stored=12)
        clean.StudyInstanceUID = clean.SeriesInstanceUID = f"2.25.{number + 1}"
        clean.SOPInstanceUID = clean.file_meta.MediaStorageSOPInstanceUID = f"2.25.{number + 1}.1"
        (tmp_path / "in").mkdir(exist_ok=True)
        as_file(clean, tmp_path / "in" / f"{number}.dcm")
    predict(
        runs.folder / "classifier",
        tmp_path / "in",
        out=tmp_path / "out",
        outputs=("png", "sc"),
        num_workers=0,
        device="cpu",
    )
    with_identity = {_picture(path) for path in (runs.folder / "classified").glob("*/*") if _is_picture(path)}
    without = [_picture(path) for path in (tmp_path / "out").glob("*/*") if _is_picture(path)]
    assert len(without) == 2 * len(planted)
    assert set(without) <= with_identity


def _is_picture(path: Path) -> bool:
    return path.suffix == ".png" or path.parent.name == "sc"


def _picture(path: Path) -> bytes:
    return np.asarray(Image.open(path) if path.suffix == ".png" else dcmread(path).pixel_array).tobytes()


@pytest.mark.slow
def test_the_listener_tells_nobody_either(
    runs: Runs,
    images: tuple[Path, int],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    pynetdicom = pytest.importorskip("pynetdicom")
    from movl_monai.predict.listener import Listener
    from movl_monai.predict.model import open_model

    caplog.set_level(logging.DEBUG)
    sent = tmp_path / "sent"
    for folder in ("SERIES", "ODD"):
        shutil.copytree(images[0] / f"{PATH} {folder}", sent / folder)
    files = sorted(sent.rglob("*.dcm"))
    listener = Listener(open_model(runs.folder / "classifier", device="cpu"), tmp_path / "out", port=0)
    with quiet():
        ae = pynetdicom.AE("SCANNER")
        ae.add_requested_context("1.2.840.10008.5.1.4.1.1.4")
        association = ae.associate("127.0.0.1", listener.port, ae_title="MOVL")
        statuses = [association.send_c_store(dcmread(path)).Status for path in files]
        association.release()
        listener.stop()
    assert set(statuses) == {0}
    search = search_of(tmp_path / "out")
    search.folder(tmp_path / "out")
    search.text("stdout and stderr", "".join(capfd.readouterr()).encode())
    search.text("log", "\n".join(record.getMessage() for record in caplog.records).encode())
    assert not search.hits, "\n".join(search.hits[:20])
    reports = sorted((tmp_path / "out").glob("*/sr/*.dcm"))
    assert reports
    check_objects(reports, headers(sent))


@pytest.mark.slow
def test_a_word_in_an_object_is_found(tmp_path: Path) -> None:
    """The check of derived objects finds the words that a careless copy would include."""
    dataset = grey_object(np.zeros((2, 2), dtype=np.uint8))
    dataset.StudyInstanceUID = dataset.SeriesInstanceUID = f"2.25.{TAG_UID}"
    dataset.SeriesDescription = f"{TAG} description"
    as_file(dataset, tmp_path / "1.dcm")
    found = planted_elements(tmp_path / "1.dcm")
    assert set(found) == {("StudyInstanceUID",), ("SeriesInstanceUID",), ("SeriesDescription",)}
    with pytest.raises(AssertionError, match="Series"):
        check_objects([tmp_path / "1.dcm"], headers(tmp_path))


def test_the_words_of_the_search_are_those_that_are_planted(tmp_path: Path) -> None:
    plant_series(tmp_path / "series", slices=1)
    (path,) = (tmp_path / "series").iterdir()
    said = json.dumps({"/".join(where): str(value) for where, value in planted_elements(path).items()})
    assert all(word in said for word in (TAG, TAG_DATE, TAG_TIME, TAG_UID))
    assert PATH in path.name
