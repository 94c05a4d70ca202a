"""Training, evaluation and prediction on masks that libraries warn about: no traceback and no UID on any stream."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.privacy.plant import PATH, plant_pairs
from tests.privacy.runs import WORDS, Runs
from tests.privacy.search import Search
from tests.workflows import FAST_SEGMENTING, ROOT

CONFIGS = ROOT / "bundles" / "dvpt_segmentation" / "configs"
TRAIN = str(CONFIGS / "train.json")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Return the output of the commands, with all loggers of all libraries at their defaults."""
    base = tmp_path_factory.mktemp("streams")
    data, out = base / f"{PATH}_HOSPITAL", base / "out"
    plant_pairs(data)
    out.mkdir()
    runs = Runs(folder=out, planted=0)
    settings = [f"--{name}={value}" for name, value in FAST_SEGMENTING.items()]
    settings += [f"--dataset_dir={data}", "--mask_class_names=['background', 'Lesion']"]
    trained, images = str(out / "trained"), str(data / "images")
    predict = ["predict", trained, images, "--device", "cpu", "--workers"]
    runs.run_commands(
        "commands",
        {
            "ingest": ["ingest", images, "--out", str(out / "ingested/manifest.csv")],
            "training": ["run", "training", "--config_file", TRAIN, f"--output_dir={trained}", *settings],
            "evaluation": ["evaluate", trained, "--dataset_dir", str(data), "--device", "cpu"],
            "prediction": [*predict, "0", "--out", str(out / "predicted"), "--outputs", "csv,json,seg,sc,nifti"],
            "workers": [*predict, "1", "--out", str(out / "again"), "--outputs", "csv,seg"],
        },
    )
    return runs


@pytest.mark.slow
def test_no_library_says_a_word_about_the_images(runs: Runs) -> None:
    said = runs.said["stderr of commands"].decode(errors="replace")
    assert runs.codes == dict.fromkeys(["commands", "ingest", "training", "evaluation", "prediction", "workers"], 0), (
        said
    )
    assert list(runs.folder.glob("predicted/seg/*.dcm"))
    search = Search(WORDS)
    for name, content in runs.said.items():
        search.text(name, content)
    assert search.hits == []
    assert runs.uids() == []
    assert runs.tracebacks() == []


def test_uids_and_tracebacks_on_streams_are_found(tmp_path: Path) -> None:
    said = b"Duplicate entries: '1.2.826.0.1.3680043.8.498.791', '2.25.774193771930'. torch 2.14.1, 10.0.0.1"
    runs = Runs(folder=tmp_path, planted=0, said={"a": said, "b": b"Traceback (most recent call last):", "c": b""})
    assert len(runs.uids()) == 2
    assert runs.tracebacks() == ["b"]
