"""Ingest, training, fit, evaluation, inference and failures write nothing that identifies a patient."""

from __future__ import annotations

import base64
import gzip
import io
import stat
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from safetensors.torch import save_file

from tests.privacy.plant import PATH, TAG, TAG_UID, plant_folder
from tests.privacy.runs import WORDS, Runs
from tests.privacy.search import Search
from tests.workflows import FAST, ROOT, for_inference

CONFIGS = ROOT / "bundles" / "movl_classification" / "configs"
TRAIN, EVALUATE = str(CONFIGS / "train.json"), str(CONFIGS / "evaluate.json")
# files that stay at the site and are there to lead back to the images: they may hold paths, and no tag
PATHS_ALLOWED = {"files.csv": (PATH,), "id_map.json": (PATH,), "manifest.csv": (PATH,)}

READ_EVERYTHING = """
import sys, traceback
from pathlib import Path
from movl_monai.transforms import LoadMedicalImage, LoadMedicalImaged, LoadSegmentation, MedicalImageReader
from movl_monai.transforms import read_dicom_volume
from monai.transforms import Compose, LoadImaged
paths = sorted(path for path in Path(sys.argv[1]).rglob("*") if path.is_file() or path.is_symlink())
readers = {
    "load": LoadMedicalImage(), "mask": LoadSegmentation(), "volume": lambda path: read_dicom_volume([path]),
    "record": lambda path: Compose([LoadMedicalImaged(record_key="record")])({"image": str(path)})["record"],
    "meta": lambda path: MedicalImageReader().get_data([path])[1],
}
for path in paths:
    for name, read in readers.items():
        try:
            print(name, read(path) if name in ("record", "meta") else "read")
        except (ValueError, RuntimeError) as error:  # MONAI wraps those of a Compose
            print(name, getattr(error, "reason", "no reason"), error)
            traceback.print_exc()
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Every command that reads images, on a folder full of planted words."""
    base = tmp_path_factory.mktemp("privacy")
    images = base / f"{PATH}_HOSPITAL"
    runs = Runs(folder=base / "out", planted=plant_folder(images))
    runs.folder.mkdir()
    runs.run_commands("commands", _commands(images, runs.folder))
    settings = [f"--{key}={value}" for key, value in FAST.items()]
    # MONAI's own runner repeats the arguments in its log, so the folder with the planted name is not among them
    wrong = [f"--dataset_dir={runs.folder / 'ingested'}", f"--output_dir={runs.folder / 'wrong'}", *settings]
    wrong += ["--resize_mode=sideways"]
    runs.run("monai.bundle", "-m", "monai.bundle", "run", "training", "--config_file", TRAIN, *wrong)
    runs.run("reading", "-c", READ_EVERYTHING, str(images))
    return runs


def _commands(images: Path, out: Path) -> dict[str, list[str]]:
    fast = [f"--{key}={value}" for key, value in FAST.items()]
    shared = [f"--{key}={value}" for key, value in for_inference(FAST).items()]
    data, checkpoint = f"--dataset_dir={out / 'ingested'}", f"--checkpoint={out / 'trained' / 'models' / 'model.pt'}"
    manifest = str(out / "ingested" / "manifest.csv")

    def run(run_id: str, files: list[str], source: str, folder: str, *settings: str) -> list[str]:
        return ["run", run_id, "--config_file", *files, source, f"--output_dir={out / folder}", *settings]

    inference, unlabelled = [str(CONFIGS / "inference.json")], f"--dataset_dir={images}"
    labels = ["--labels", str(images / "labels.csv"), "--one_image_per_patient", "--split_fractions", "0.4,0.3,0.3"]
    return {
        "ingest": ["ingest", str(images), "--out", manifest, *labels],
        "check": ["check", manifest, "--output_dir", str(out / "checked")],
        "training": run("training", [TRAIN], data, "trained", *fast),
        "evaluation": run("evaluating", [TRAIN, EVALUATE], data, "trained", *fast),
        "fit": ["fit", str(out / "ingested"), "--output_dir", str(out / "fitted"), *fast],
        "fit of no folder": ["fit", str(images / "missing"), "--output_dir", str(out / "unfitted"), *fast],
        "inference": run("inferring", inference, unlabelled, "inferred", checkpoint, "--max_unreadable=1", *shared),
        "too many unreadable": run(
            "inferring", inference, unlabelled, "failed", checkpoint, "--max_unreadable=0.01", *shared
        ),
        "NaN": run("training", [TRAIN], data, "nan", *fast, "--discrepancy_weight=1e300"),
        "wrong setting": run("training", [TRAIN], data, "wrong", *fast, "--resize_mode=sideways"),
        "traceback": ["--traceback", *run("training", [TRAIN], unlabelled, "traced", *fast)],
        "no folder": run("training", [TRAIN], f"{unlabelled}/missing", "missing", *fast),
        "ingest of no folder": ["ingest", str(images / "missing"), "--out", str(out / "none" / "manifest.csv")],
    }


@pytest.mark.slow
def test_what_should_succeed_succeeds_and_what_should_fail_fails(runs: Runs) -> None:
    told = {name: runs.said[f"stderr of {name}"].decode(errors="replace") for name in ("commands", "reading")}
    for name in ("commands", "ingest", "training", "evaluation", "fit", "inference", "reading"):
        assert runs.codes[name] == 0, told.get(name, told["commands"])
    for name in (
        "too many unreadable",
        "NaN",
        "wrong setting",
        "traceback",
        "no folder",
        "ingest of no folder",
        "fit of no folder",
    ):
        assert runs.codes[name] != 0, name
    assert runs.codes["monai.bundle"] != 0
    for file in (
        "ingested/quality.html",
        "trained/evaluation/report.html",
        "trained/models/model.pt",
        "fitted/model.onnx",
        "inferred/predictions.csv",
    ):
        assert (runs.folder / file).is_file(), file
    assert b"Traceback" in runs.said["stderr of reading"]


@pytest.mark.slow
def test_no_planted_word_is_in_any_output(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    search = Search(WORDS, PATHS_ALLOWED)
    told = runs.searched(search)
    with capsys.disabled():
        print(told)
    assert not search.hits, "\n".join(search.hits[:20])
    assert not runs.uids()
    assert runs.planted > 10_000
    assert search.files > 20


@pytest.mark.slow
def test_the_files_that_lead_back_to_the_images_are_the_only_ones_with_paths(runs: Runs) -> None:
    search = Search(WORDS)
    search.folder(runs.folder)
    holders = {Path(hit.split(" in ")[1].split(" at ")[0].split(" > ")[0]).name for hit in search.hits}
    assert holders == set(PATHS_ALLOWED)
    assert {hit.split(" in ")[0] for hit in search.hits} == {PATH}
    tables = [path for name in ("id_map.json", "files.csv") for path in runs.folder.rglob(name)]
    for path in tables:
        assert path.parent.name == "local"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def _zipped(word: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inner", word * 9)
    return file.getvalue()


def _picture(word: str) -> bytes:
    file, info = io.BytesIO(), PngInfo()
    info.add_text("comment", word, zip=True)
    Image.new("L", (2, 2)).save(file, "PNG", pnginfo=info)
    return file.getvalue()


def _checkpoint(word: str) -> bytes:
    file = io.BytesIO()
    torch.save({"network": torch.zeros(2), word: 1}, file)
    return file.getvalue()


def _arrays(word: str) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, names=np.array([word]))
    return file.getvalue()


@pytest.mark.parametrize(
    "hide",
    {
        "plain": str.encode,
        "lower case": lambda word: word.lower().encode(),
        "UTF-16": lambda word: ("ä" + word).encode("utf-16"),
        "base64": lambda word: base64.b64encode(b"x" + word.encode()),
        "longer base64": lambda word: (
            b"data:;base64," + base64.b64encode(b"some text around " + word.encode() + b" it")
        ),
        "hexadecimal": lambda word: word.encode().hex().encode(),
        "percent": lambda word: "".join(f"%{byte:02X}" for byte in word.encode()).encode(),
        "zip": _zipped,
        "gzip": lambda word: gzip.compress(word.encode()),
        "PNG": _picture,
        "page": lambda word: b'<img src="data:image/png;base64,' + base64.b64encode(_picture(word)) + b'">',
        "checkpoint": _checkpoint,
        "npz": _arrays,
    }.values(),
)
def test_the_search_finds_what_is_hidden(hide: object, tmp_path: Path) -> None:
    (tmp_path / "harmless.bin").write_bytes(bytes(range(256)) * 9)
    search = Search(WORDS)
    search.folder(tmp_path)
    assert not search.hits
    (tmp_path / "leak.bin").write_bytes(b"before " + hide(TAG) if hide is str.encode else hide(TAG))  # type: ignore[operator]
    search.folder(tmp_path)
    assert any(hit.startswith(f"{TAG} in leak.bin") for hit in search.hits)


def test_the_search_looks_at_names_and_headers(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, tmp_path / "weights.safetensors", metadata={"patient": TAG_UID})
    (tmp_path / PATH).mkdir()
    search = Search(WORDS)
    search.folder(tmp_path)
    assert {hit.split(" in ")[0] for hit in search.hits} == {TAG_UID, PATH}
