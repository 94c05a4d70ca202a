"""A run of every bundle is exported to a file with the same predictions, or no file is written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from movl_monai.cli import main
from movl_monai.cli.export import _described
from movl_monai.data.decode import decode
from movl_monai.errors import ConfigError, DataError, ExportError
from movl_monai.evaluation import read_outputs
from movl_monai.evaluation.trust_record import TRUST_FILE, TrustError, read_trust
from movl_monai.export import exporting, read_exported
from movl_monai.export.exporting import ExportedFile, export_run
from movl_monai.export.parity import Parity
from movl_monai.export.sealed import SUFFIXES
from movl_monai.runs.run_record import open_run
from tests.helpers import QUIET
from tests.workflows import CONFIGS

pytestmark = QUIET


def _files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


# torch.export is half of the way to ONNX, and takes seconds
ROWS = [(bundle, form) for bundle in CONFIGS for form in SUFFIXES if form != "torch-export" or "dvpt_c" in bundle]


@pytest.mark.slow
@pytest.mark.parametrize(("bundle", "form"), ROWS)
def test_the_file_of_a_run_reads_images_and_predicts_as_the_run_does(
    bundle: str, form: Any, run_of: dict[str, Path], data_of: dict[str, Path], tmp_path: Path
) -> None:
    (file,) = export_run(run_of[bundle], form, output=tmp_path / "out" / f"m{SUFFIXES[form]}")
    assert _files(tmp_path / "out") == [file.path.name]
    assert file.parity.logits <= 1e-4
    assert file.parity.kind == ("val" if bundle == "dvpt_classification" else "phantom")
    run, model = open_run(run_of[bundle]), read_exported(file.path)
    path = next(iter(sorted(data_of[bundle].rglob("*.dcm")) or sorted(data_of[bundle].rglob("*.png"))))
    images = [decode({"image": str(path)}, chain()).image for chain in (run.preprocessing, model.preprocessing)]
    assert images[0] is not None
    np.testing.assert_array_equal(images[0], images[1])
    image = images[1][None].astype(np.float32) / 255
    with torch.no_grad():
        expected = run.network()(torch.from_numpy(image)).numpy()
    np.testing.assert_allclose(model(image).logits, expected, atol=1e-4)


@pytest.fixture(scope="module")
def exported(run_of: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A TorchScript file, the quickest to make, of the evaluated run."""
    path = tmp_path_factory.mktemp("exported") / "model.ts"
    export_run(run_of["dvpt_classification"], "torchscript", output=path)
    return path


def test_the_metadata_say_what_was_trained_and_name_no_folder(exported: Path, run_of: dict[str, Path]) -> None:
    metadata = read_exported(exported).metadata
    run = open_run(run_of["dvpt_classification"])
    assert metadata["bundle"] == {"name": "dvpt_classification", "version": run.record["bundle_version"]}
    assert metadata["class_names"] == run.class_names == ["lesion", "no_lesion"]
    assert metadata["image_size"] == metadata["input_size"] == [64, 64]
    assert metadata["windows"] is None
    assert metadata["backbone"]["content_sha256"] == run.network().backbone.content_sha256()
    loader = metadata["preprocessing"]["transforms"][0]
    assert loader["_target_"] == "movl_monai.transforms.LoadMedicalImaged"
    assert loader["ct_windows"] == ["lungs", "mediastinum", "spine_bone"]
    assert metadata["parity"]["kind"] == "val"
    assert metadata["parity"]["batch_sizes"] == [1, 3]
    assert torch.__version__.startswith(metadata["versions"]["torch"])
    text = json.dumps(metadata)
    folders = (run_of["dvpt_classification"], Path.home(), Path(__file__).parents[2])
    assert [folder for folder in folders if str(folder) in text] == []


def test_the_trust_record_comes_along_and_says_the_same(exported: Path, run_of: dict[str, Path]) -> None:
    run, model = open_run(run_of["dvpt_classification"]), read_exported(exported)
    own, carried = read_trust(run.checkpoint.with_name(TRUST_FILE), run.network()), model.trust()
    assert carried is not None
    assert model.metadata["trust"]["temperature"] == own.temperature
    assert model.metadata["trust"]["ood"]["score"] == own.detector.score.name
    assert model.metadata["trust"]["ood"]["threshold"] == own.detector.threshold
    val = read_outputs(run.folder).sections()["val"]
    expected, got = (record.apply(val.predictions.logits, val.features) for record in (own, carried))
    np.testing.assert_array_equal(expected.probabilities, got.probabilities)
    np.testing.assert_array_equal(expected.ood_scores, got.ood_scores)


def test_a_trust_record_of_another_checkpoint_is_refused_unless_it_is_left_out(
    run_of: dict[str, Path], tmp_path: Path
) -> None:
    models = tmp_path / "run" / "models"
    shutil.copytree(run_of["dvpt_classification"] / "models", models)
    state = torch.load(models / "model.pt", weights_only=True)
    state["head.bias"] += 0.1
    torch.save(state, models / "model.pt")
    with pytest.raises(TrustError, match="belongs to the trained state"):
        export_run(tmp_path / "run", "torchscript")
    export_run(tmp_path / "run", "torchscript", trust=False)
    model = read_exported(models / "model.ts")
    assert model.trust() is None
    assert model.metadata["trust"] is None


def test_an_export_beyond_the_tolerance_leaves_no_file(
    run_of: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = exporting.compile_graph

    def wrong(graph: Any, *arguments: Any, **options: Any) -> Any:
        with torch.no_grad():
            graph.network.head.bias.add_(2e-4)
        return whole(graph, *arguments, **options)

    monkeypatch.setattr(exporting, "compile_graph", wrong)
    output = tmp_path / "out" / "model.ts"
    with pytest.raises(ExportError, match=r"logits differ by up to 0.0002, .*features by .*; allowed is 0.0001"):
        export_run(run_of["movl_classification"], "torchscript", output=output)
    assert _files(tmp_path / "out") == []
    (file,) = export_run(run_of["movl_classification"], "torchscript", output=output, tolerance=1e-3)
    assert 1e-4 < file.parity.logits < 3e-4


def test_an_export_that_is_interrupted_keeps_the_file_of_before(
    run_of: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "model.ts"
    output.write_bytes(b"before")

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(exporting, "measure_parity", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export_run(run_of["movl_classification"], "torchscript", output=output)
    assert _files(tmp_path) == ["model.ts"]
    assert output.read_bytes() == b"before"


def test_images_of_the_user_are_compared_on_and_bad_ones_are_named(
    run_of: dict[str, Path], data_of: dict[str, Path], tmp_path: Path
) -> None:
    run = run_of["movl_classification"]
    folder = data_of["movl_classification"] / "images"
    (file,) = export_run(run, "torchscript", output=tmp_path / "m.ts", images=[folder])
    assert (file.parity.kind, file.parity.images) == ("given", 6)
    one = sorted(folder.rglob("*.dcm"))[0]
    (file,) = export_run(run, "torchscript", output=tmp_path / "m.ts", images=[one])
    assert file.parity.images == 1
    with pytest.raises(DataError, match="there is no file or folder"):
        export_run(run, "torchscript", images=[tmp_path / "nowhere"])
    (tmp_path / "broken.dcm").write_bytes(one.read_bytes()[:600])
    with pytest.raises(DataError, match=r"None of the 1 images|No image was found"):
        export_run(run, "torchscript", images=[tmp_path / "broken.dcm"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"form": "caffe"}, "--format must be one of torchscript, onnx, torch-export, got 'caffe'"),
        ({"tolerance": 0.0}, "--tolerance must be a number above 0"),
        ({"tolerance": float("nan")}, "--tolerance must be a number above 0"),
        ({"int8": True}, "--int8 is for --format onnx"),
        ({"int8_max_drop": 2.0}, "--int8_max_drop must be a share from 0 to 1"),
        (
            {"output": "out/model.onnx"},
            r"must name a file that ends in .ts for --format torchscript, got model.onnx; try",
        ),
        ({"output": "models/model.pt"}, "ends in .ts for --format torchscript, got model.pt; try model.ts, or another"),
        ({"output": "model.TS"}, "ends in .ts"),
        ({"output": "out"}, "ends in .ts for --format torchscript, got out; try out.ts"),
    ],
)
def test_settings_that_make_no_sense_are_refused_before_anything_is_read(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        export_run("/nowhere", **{"form": "torchscript", **options})


@pytest.mark.slow
def test_int8_is_measured_on_val_and_refused_where_it_changes_too_much(
    run_of: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, output = run_of["dvpt_classification"], tmp_path / "model.onnx"
    exact, twin = export_run(run, "onnx", output=output, int8=True, int8_max_drop=1.0)
    assert _files(tmp_path) == ["model.int8.onnx", "model.onnx"]
    assert twin.megabytes < 0.6 * exact.megabytes
    val = read_outputs(run).sections()["val"]
    assert twin.int8 is not None
    assert twin.int8["images"] == len(val) == 6
    right = val.predictions.logits.argmax(axis=1) == val.predictions.labels
    assert twin.int8["labeled"]["accuracy"]["before"] == pytest.approx(right.mean())
    assert twin.int8["labeled"]["resampled"] == "patients"
    least, most = _outside(exact.path, run)
    assert most - least <= 1 / len(val), "the image at the threshold alone may be on either side"
    assert least <= twin.int8["marks"]["outside"]["before"] <= most
    assert 0 < twin.int8["max_logit_difference"] < 1
    assert twin.int8["max_drop"] == 1.0
    assert read_exported(twin.path).metadata["int8"] == twin.int8
    assert read_exported(exact.path).metadata["int8"] is None
    monkeypatch.setattr(exporting, "describe_change", _much_worse(exporting.describe_change))
    (tmp_path / "model.onnx").unlink()
    (tmp_path / "model.int8.onnx").unlink()
    with pytest.raises(ExportError, match=r"In int8 the balanced accuracy falls by 0.500 \(6 val images\), allowed is"):
        export_run(run, "onnx", output=output, int8=True)
    assert _files(tmp_path) == []


def _outside(path: Path, run: Path) -> tuple[float, float]:
    """Shares of val images that the file's record flags for the evaluation's outputs.

    The threshold is the score of a val image, which the file computes again in another order: that image may be on
    either side.
    """
    val, record = read_outputs(run).sections()["val"], read_exported(path).trust()
    assert record is not None
    assert record.detector is not None
    scores, threshold = record.detector(val.predictions.logits, val.features)[0], record.detector.threshold
    return float((scores > 1.0001 * threshold).mean()), float((scores > 0.9999 * threshold).mean())


def _much_worse(describe: Any) -> Any:
    def worse(*given: Any, **options: Any) -> dict[str, Any]:
        change = describe(*given, **options)
        change["labeled"]["balanced_accuracy"] = {"before": 0.9, "after": 0.4, "change": -0.5, "interval": None}
        return change

    return worse


@pytest.mark.parametrize(
    ("bundle", "advice"),
    [("movl_classification", "evaluate it first .* or name some"), ("dvpt_segmentation", "this run is for: name some")],
)
def test_int8_is_refused_where_no_image_of_the_run_is_known(
    bundle: str, advice: str, run_of: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match=advice):
        export_run(run_of[bundle], "onnx", output=tmp_path / "m.onnx", int8=True)
    assert _files(tmp_path) == []


def test_what_int8_changes_is_printed() -> None:
    figure = {"before": 0.9, "after": 0.885, "change": -0.015, "interval": [-0.03, 0.005]}
    labeled = {"balanced_accuracy": figure, "level": 0.95, "resampled": "patients", "lost_at_most": None}
    change = {
        "images": 200,
        "kind": "val",
        "available": 210,
        "unreadable": 10,
        "same_class": 0.975,
        "max_logit_difference": 0.19,
        "max_probability_difference": 0.066,
        "max_drop": 0.02,
        "labeled": labeled | {"only_before_right": 4, "only_after_right": 1},
        "marks": {"outside": {"before": 0.05, "after": 0.1, "changed": 0.05}, "abstain": None},
    }
    parity = Parity(6, "val", (1, 3), logits=1e-6, relative=False, probabilities=1e-6, features=1e-7, tolerance=1e-4)
    described = _described(ExportedFile(Path("model.int8.onnx"), parity, change))
    for said in (
        "on 200 images of val (of 210, 10 could not be read): balanced accuracy 0.9000 -> 0.8850 (-0.0150, 95 % "
        "interval -0.0300 to +0.0050 over patients); right before and wrong after: 4, the other way: 1",
        "97.50 % keep their class, logits differ by up to 0.19, probabilities by up to 0.066",
        "outside 5.0 % -> 10.0 % of images (5.0 % change it)",
        "on 200 images a fall of the balanced accuracy by 0.030 cannot be ruled out (95 % interval); more images would",
    ):
        assert said in described
    assert "abstain" not in described


def test_the_command_says_what_it_wrote(
    run_of: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "model.ts"
    words = ["export", str(run_of["movl_classification"]), "--format", "torchscript", "--output", str(output)]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert f"{output} (" in printed
    assert "(allowed 1e-04)" in printed
    assert "6 rendered images of the phantom, batches of 1 and 3" in printed
    assert main(["export", str(tmp_path)]) == 2
    assert "run.json" in capsys.readouterr().err
