"""The command on a tiny phantom: files, resuming, and refusals."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import balanced_accuracy_score

from movl_monai.cli import main
from movl_monai.networks import decode_facts, encode_facts
from tests.tables import read_rows

FEW = [
    "--severities",
    "2,4",
    "--corruptions",
    "contrast,gaussian_noise,inversion",
    "--rounds",
    "50",
    "--num_workers",
    "0",
]


def suite(dataset: Path, output: Path, *words: object) -> int:
    fixed = ["--dataset_dir", dataset, "--output_dir", output, *FEW]
    return main(["robustness", *map(str, [*words, *fixed])])


def refused(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().err.split())


@pytest.fixture(scope="module")
def output(phantom: Path, probe: Path, joint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("suite")
    assert suite(phantom, folder, probe, f"movl={joint}", "--baseline", "probe") == 0
    return folder


def test_it_writes_a_page_a_table_a_picture_and_json_that_agree(output: Path) -> None:
    result = json.loads((output / "robustness.json").read_text(encoding="utf-8"))
    assert (result["schema_version"], result["baseline"], list(result["runs"])) == (1, "probe", ["probe", "movl"])
    assert result["images"] == {"n": 12, "patients": 6, "classes": result["images"]["classes"]}
    assert sum(result["images"]["classes"].values()) == 12
    assert result["corruptions"]["contrast"]["parameters"] == {"2": 0.65, "4": 0.35}
    assert list(result["corruptions"]["inversion"]["parameters"]) == ["1"]
    rows = read_rows(output / "robustness.csv")
    assert len(rows) == 2 * (1 + 2 + 2 + 1)
    for row in rows:
        part = result["runs"][row["run"]]
        cell = (
            part["clean"] if row["corruption"] == "clean" else part["corruptions"][row["corruption"]][row["severity"]]
        )
        assert float(row["balanced_accuracy"]) == cell["balanced_accuracy"]["value"]
        assert float(row["auroc_low"]) == cell["auroc"]["interval"][0]
    logits = np.load(next((output / "logits").glob("contrast-4-*.npz")))[result["facts"]["movl"]["digest"]]
    images = read_rows(output / "images.csv")
    predicted = [sorted(result["images"]["classes"])[row.argmax()] for row in logits]
    oracle = balanced_accuracy_score([image["label"] for image in images], predicted)
    cell = result["runs"]["movl"]["corruptions"]["contrast"]["4"]
    assert cell["balanced_accuracy"]["value"] == pytest.approx(oracle)
    assert len({image["patient"] for image in images}) == 6
    page = (output / "robustness.md").read_text(encoding="utf-8")
    clean = result["runs"]["movl"]["clean"]["balanced_accuracy"]["value"]
    assert f"| movl | {clean:.3f} [" in page
    assert "| probe (baseline) |" in page
    assert "![Balanced accuracy by corruption and severity](robustness.png)" in page
    assert "movl-monai robustness RUN_1 RUN_2 --baseline probe --dataset_dir DIR --output_dir OUT" in page
    with Image.open(output / "robustness.png") as picture:
        assert picture.size[0] > 500


def test_nothing_written_names_a_patient_a_path_or_this_machine(output: Path, phantom: Path, probe: Path) -> None:
    rows = read_rows(phantom / "manifest.csv")
    names = {row["patient_id"] for row in rows} | {row["path"] for row in rows} | {str(phantom), str(probe.parent)}
    written = [
        path for path in output.rglob("*") if path.is_file() and path.suffix != ".png" and "local" not in path.parts
    ]
    assert len(written) >= 9
    for path in written:
        content = path.read_bytes()
        assert not [name for name in names if name.encode() in content], path.name


def test_the_same_command_again_computes_nothing_and_a_new_run_only_itself(
    output: Path, phantom: Path, probe: Path, joint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import movl_monai.experiments.robustness.suite as module

    folder = tmp_path / "suite"
    shutil.copytree(output, folder)
    calls: list[list[str]] = []
    compute = module.compute_logits
    monkeypatch.setattr(
        module,
        "compute_logits",
        lambda networks, *rest, **more: calls.append([*networks]) or compute(networks, *rest, **more),
    )
    before = json.loads((folder / "robustness.json").read_text(encoding="utf-8"))
    assert suite(phantom, folder, probe, f"movl={joint}", "--baseline", probe) == 0
    assert calls == []
    assert json.loads((folder / "robustness.json").read_text(encoding="utf-8")) == before
    other = tmp_path / "other"
    shutil.copytree(joint, other)
    state = torch.load(other / "models" / "model.pt", weights_only=True)
    state["head.bias"] += 1
    torch.save(state, other / "models" / "model.pt")
    assert suite(phantom, folder, probe, f"movl={joint}", other, "--baseline", "probe") == 0
    assert calls == [["other"]] * 6


def test_another_folder_gives_the_same_figures(
    output: Path, phantom: Path, probe: Path, joint: Path, tmp_path: Path
) -> None:
    assert suite(phantom, tmp_path, f"movl={joint}", "--baseline", probe) == 0  # the baseline is added
    here, there = (json.loads((folder / "robustness.json").read_text()) for folder in (tmp_path, output))
    assert list(here["runs"]) == ["movl", "probe"]
    assert all(here["runs"][name] == there["runs"][name] for name in ("movl", "probe"))


def test_fewer_images_are_as_many_of_each_class_and_of_many_patients(
    phantom: Path, probe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert suite(phantom, tmp_path, probe, "--baseline", "probe", "--images", 4) == 0
    result = json.loads((tmp_path / "robustness.json").read_text(encoding="utf-8"))
    assert result["images"] == {"n": 4, "patients": 4, "classes": {"no_lesion": 2, "lesion": 2}}
    assert "4 in-distribution test images" in capsys.readouterr().out


def test_a_test_split_of_one_class_is_refused(
    phantom: Path, probe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = (phantom / "manifest.csv").read_text(encoding="utf-8").splitlines()
    kept = [
        line for line in lines if not ("no_lesion" in line and ",test,scanner_a" in line.replace(",id", ",scanner_a"))
    ]
    assert len(kept) < len(lines)
    manifest = tmp_path / "one_class.csv"
    root = str(phantom)
    manifest.write_text("\n".join([kept[0], *(f"{root}/{line}" for line in kept[1:])]), encoding="utf-8")
    assert suite(manifest, tmp_path / "out", probe, "--baseline", "probe") == 2
    assert "has no image of 'no_lesion' among its" in refused(capsys)


def test_runs_of_other_classes_are_refused(
    phantom: Path, probe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    shutil.copytree(probe, other)
    state = torch.load(other / "models" / "model.pt", weights_only=True)
    state["_extra_state"] = encode_facts({**decode_facts(state["_extra_state"]), "class_names": ["cat", "dog"]})
    torch.save(state, other / "models" / "model.pt")
    assert suite(phantom, tmp_path / "out", probe, other, "--baseline", "probe") == 2
    assert "['lesion', 'no_lesion'] in 'probe', ['cat', 'dog'] in 'other'" in refused(capsys)


def test_a_segmentation_is_refused(
    phantom: Path, probe: Path, segmentation: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert suite(phantom, tmp_path / "out", probe, segmentation, "--baseline", "probe") == 2
    assert "The run 'masks' is a segmentation" in refused(capsys)


def test_a_baseline_that_is_no_run_is_refused(
    phantom: Path, probe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert suite(phantom, tmp_path / "out", probe, "--baseline", "linear_probe") == 2
    assert "--baseline must be the name or the folder of a run, got 'linear_probe'; the runs are probe." in refused(
        capsys
    )


def test_a_run_given_twice_and_one_without_a_record_are_refused(
    phantom: Path, probe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert suite(phantom, tmp_path / "out", probe, probe, "--baseline", "probe") == 2
    assert "Two runs are called 'probe'" in refused(capsys)
    (tmp_path / "empty").mkdir()
    assert suite(phantom, tmp_path / "out", probe, tmp_path / "empty", "--baseline", "probe") == 2
    assert "run.json" in refused(capsys)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--severities", "1,x"], "--severities must be whole numbers separated by commas, such as 1,3,5, got '1,x'"),
        (["--severities", "0"], r"Severities must be whole numbers from 1 to 5, such as 1,3,5, got \[0\]"),
        (["--corruptions", "fog"], "got 'fog'"),
        (["--epochs", "3"], "`--epochs` is not a setting of the data set"),
        (["--bundle_dir", "/nowhere"], "There is no bundle '/nowhere'"),
        (["--id_domain", "nowhere"], "No image of the domain 'nowhere'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    words: list[str], message: str, phantom: Path, probe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fixed = ["--dataset_dir", str(phantom), "--output_dir", str(tmp_path), "--num_workers", "0"]
    assert main(["robustness", str(probe), "--baseline", "probe", *fixed, *words]) == 2
    assert re.search(message, refused(capsys))


def test_images_that_a_run_learned_from_are_refused(
    phantom: Path, probe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    swapped = (phantom / "manifest.csv").read_text(encoding="utf-8").splitlines()
    names = {"train": "test", "test": "train"}
    rows = [re.sub(r",(train|test),", lambda found: f",{names[found.group(1)]},", line) for line in swapped[1:]]
    manifest = tmp_path / "swapped.csv"
    manifest.write_text("\n".join([swapped[0], *(f"{phantom}/{row}" for row in rows)]), encoding="utf-8")
    assert suite(manifest, tmp_path / "out", probe, "--baseline", "probe") == 3
    assert "12 images would be scored as test" in refused(capsys)


def test_a_data_set_without_a_split_gets_that_of_the_training_if_it_can_be_checked(
    phantom: Path, probe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.experiments.robustness.conftest import train

    lines = (phantom / "manifest.csv").read_text(encoding="utf-8").splitlines()
    rows = [re.sub(r",(train|val|test),", ",,", line) for line in lines[1:] if "scanner_b" not in line]
    manifest = tmp_path / "unsplit.csv"
    manifest.write_text("\n".join([lines[0], *(f"{phantom}/{row}" for row in rows)]), encoding="utf-8")
    run = train(tmp_path / "run", manifest, "strategy_linear_probe.json", seed=5, split_fractions=[0.4, 0.2, 0.4])
    assert suite(manifest, tmp_path / "out", run, "--baseline", "run") == 0
    result = json.loads((tmp_path / "out" / "robustness.json").read_text(encoding="utf-8"))
    assert result["images"]["n"] in (12, 14)
    assert not [note for note in result["notes"] if "could not be checked" in note]
    # another seed makes no other splits, unless the run is one of those that kept none
    assert suite(manifest, tmp_path / "out", run, "--baseline", "run", "--seed", 6) == 0
    (run / "models/splits.csv").unlink()
    record = json.loads((run / "models/run.json").read_text(encoding="utf-8"))
    (run / "models/run.json").write_text(json.dumps({**record, "splits_sha256": None}), encoding="utf-8")
    assert suite(manifest, tmp_path / "out", run, "--baseline", "run", "--seed", 6) == 3
    assert "were among the train or val images of the run 'run'" in refused(capsys)
    shutil.rmtree(run / "local")
    assert suite(manifest, tmp_path / "out", run, "--baseline", "run") == 2
    assert "The data set gives no test split, so that it was made again" in refused(capsys)
