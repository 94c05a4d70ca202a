"""Mistakes of users, and the message of each: one paragraph with cause and remedy, and no traceback."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
from PIL import Image

from movl_monai import errors
from movl_monai.cli import main
from movl_monai.cli.main import COMMANDS
from movl_monai.cli.options import CORRUPTION_NAMES
from movl_monai.errors import ConfigError, errors_shown_once, show_user_errors
from movl_monai.transforms.corruptions import CORRUPTIONS

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = {"C": ROOT / "bundles/movl_classification/configs", "D": ROOT / "bundles/dvpt_classification/configs"}
CONFIGS |= {"S": ROOT / "bundles/dvpt_segmentation/configs"}
ROWS = [(f"{split}/{label}/{number}.png", label, split) for split in ("train", "val", "test") for label in "ab"
        for number in range(3)]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data sets with the mistakes, small and named after them."""
    root = tmp_path_factory.mktemp("mistakes")
    for number, (name, _, _) in enumerate(ROWS):
        _picture(root / "good" / name, number)
        _picture(root / "case" / name.replace("/b/", "/A/"), number)
        _picture(root / "flat" / f"{number}.png", number)
    for place, header in LISTS.items():
        (root / place).mkdir()
        (root / place / "manifest.csv").write_text(f"{header}\n" + "".join(_rows(place, root)))
    shutil.copytree(root / "good", root / "good_2")
    shutil.copytree(root / "good", root / "unseen_class")
    shutil.rmtree(root / "unseen_class/val/b")
    (root / "empty").mkdir()
    (root / "sheet").mkdir()
    (root / "sheet/manifest.xlsx").write_bytes(b"PK")
    for name in ("model.pt", "run.json"):
        (root / "used/models").mkdir(parents=True, exist_ok=True)
        (root / "used/models" / name).write_text("{}")
    (root / "file").write_text("")
    for number in range(12):
        mask = np.zeros((32, 32), np.uint8)
        mask[8:20, 8 : 16 + number] = 255
        for place, suffix in (("jpeg", "jpg"), ("swapped", "png")):
            names = ("masks", "images") if place == "swapped" else ("images", "masks")
            _picture(root / place / names[0] / f"{number}.png", number)
            (root / place / names[1]).mkdir(exist_ok=True)
            Image.fromarray(mask).save(root / place / names[1] / f"{number}.{suffix}")
    return root


SPLIT = "path,label,patient_id,split"
PATIENTS = "path,label,patient_id"
LISTS = {"leak": SPLIT, "halves": SPLIT, "swapped_labels": SPLIT, "other_classes": SPLIT, "copies": SPLIT}
LISTS |= {"semantics": "path,class,patient_id", "gone": PATIENTS, "one_class": PATIENTS, "no_labels": PATIENTS}
LISTS |= {"patients": PATIENTS, "no_patients": "path,label"}


def _rows(place: str, root: Path) -> Iterator[str]:
    """Yield the lines of a list with one mistake, named by its folder."""
    for number, (name, label, split) in enumerate(ROWS):
        path = root / "good" / name if place != "gone" else Path(f"elsewhere/{number}.png")
        if place == "copies" and split == "test":
            path = root / "good_2" / name.replace("test/", "train/")
        labels = {"swapped_labels": "ba"["ab".index(label)], "other_classes": f"not {label}"}
        labels |= {"one_class": "a", "no_labels": ""}
        patient = number % 6 if place == "leak" else number
        yield ",".join(map(str, (path, labels.get(place, label), patient, split)[: LISTS[place].count(",") + 1])) + "\n"


def _picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (32, 32), dtype=np.uint8)).save(path)


TRAIN = "run training --config_file {C}/train.json --dataset_dir {good} --output_dir {out}"
DVPT = "run training --config_file {D}/train.json --dataset_dir {good} --output_dir {out}"
SEGMENT = "run training --config_file {S}/train.json --output_dir {out} --one_image_per_patient true --dataset_dir"
COMPARE = "compare --bundle movl_classification --dataset_dir {good} --output_dir {out}"
MISTAKES = [
    (f"{TRAIN} --dataset_dir {{none}}", 2, "`--dataset_dir` names no file or folder: there is no 'none'"),
    (f"{TRAIN} --epoch 1", 2, "Nothing in the config reads 'epoch' (did you mean 'epochs'?)"),
    (f"{TRAIN} --datset_dir x", 2, "reads 'datset_dir' (did you mean 'dataset_dir'?)"),
    ("run training --config_file {C}/trian.json", 2, "There is no config file '{C}/trian.json'"),
    ("run evaluating --config_file {C}/evaluate.json {C}/train.json", 2, "write `--config_file train.json evaluate"),
    ("run evaluating --config_file {C}/evaluate.json", 2, "evaluate.json is an overlay"),
    ("run training --config_file {C}/strategy_joint.json {C}/train.json", 2, "train.json must be the first"),
    ("run training --config_file {C}/train.json {D}/adapter_lora.json", 2, "It seems to be of another bundle"),
    (f"{TRAIN} --dataset_dir {{semantics}}", 2, "missing: label; found: path, class, patient_id"),
    (f"{TRAIN} --dataset_dir {{empty}}", 2, "dataset_dir: The folder 'empty' must hold one folder per class"),
    (f"{TRAIN} --dataset_dir {{flat}}", 2, "The folder 'flat' must hold one folder per class"),
    (f"{TRAIN} --dataset_dir {{unseen_class}}", 2, "No image of class 'b' in val"),
    (f"{TRAIN} --dataset_dir {{case}}", 2, "'A' (9 images), 'a' (9 images). If they mean one class each, set "
     "`--merge_labels true`"),
    (f"{TRAIN} --dataset_dir {{no_patients}}", 2, "the patient of 18 of 18 is not known (not in the list, and "
     "PatientID is absent, empty or the same everywhere). Do one of these: name the groups in the column patient_id"),
    (f"{TRAIN} --dataset_dir {{no_labels}}", 2, "row 2 of manifest.csv must have a path and a label"),
    (f"{TRAIN} --dataset_dir {{one_class}}", 2, "needs two or more classes, got 1: a. Add the images of another class"),
    (f"{TRAIN} --dataset_dir {{patients}} --split_fractions 0.8,0.2", 2, "must be three numbers >= 0 that add up to 1"),
    (f"{TRAIN} --dataset_dir {{patients}} --split_fractions 0.8", 2, "`--split_fractions 0.6,0.2,0.2` is usual"),
    (f"{TRAIN} --dataset_dir {{gone}}", 2, "18 of 18 files that the list names are not there (rows 2, 3"),
    (f"{TRAIN} --dataset_dir {{sheet}}", 2, "save it as 'CSV UTF-8' under the name manifest.csv"),
    (f"{TRAIN} --dataset_dir {{sheet}}/manifest.xlsx", 2, "save the spreadsheet as 'CSV UTF-8'"),
    (f"{TRAIN} --dataset_dir {{leak}}", 3, "6 of 6 patients have images in more than one split (train+val+test 6). "
     "Give all images of a patient one split (`movl-monai check DATA --output_dir DIR` lists them)"),
    (f"{TRAIN} --dataset_dir 2024", 2, "must be a path, got the number 2024; write `--dataset_dir ./2024`"),
    (f"{TRAIN} --dataset_dir=", 2, "`--dataset_dir` is empty. Expected a path; if it was written with a shell"),
    (f"{TRAIN} --ood_dataset_dirs ['{{flat}}']", 2, "ood_dataset_dirs: The folder 'flat' must hold one folder per"),
    (f"{TRAIN} --far_dataset_dirs {{none}}", 2, "far_dataset_dirs: There is no file or folder 'none'"),
    (f"{TRAIN} --epochs abc", 2, "`--epochs` must be a whole number of at least 0, such as 8, got 'abc'"),
    (f"{TRAIN} --epochs=-1", 2, "`--epochs` must be a whole number of at least 0, such as 8, got -1"),
    (f"{TRAIN} --batch_size 0", 2, "`--batch_size` must be a whole number of at least 1, such as 16, got 0"),
    (f"{TRAIN} --prompt_lr high", 2, "`--prompt_lr` must be a number, such as 0.0005, got 'high'"),
    (f"{TRAIN} --resume yes", 2, "`--resume` must be true or false, got 'yes'"),
    (f"{TRAIN} --image_size 32", 2, "`--prompt_width` must be between 1 and 15 pixels for images of 32 x 32, got 30"),
    (f"{TRAIN} --output_dir {{used}}", 2, "output_dir holds a training already (model.pt, run.json in models)"),
    (f"{TRAIN} --output_dir {{file}}", 2, "output_dir cannot be written"),
    ("run trainig --config_file {C}/train.json", 2, "have no run id 'trainig' (did you mean 'training'?)"),
    ("run evaluating --config_file {C}/train.json", 2, "no run id 'evaluating'; it is of evaluate.json: add that file"),
    ("run training --config_file /train.json", 2, "If its path was written with a shell variable, that variable"),
    ("run inferring --config_file {C}/inference.json --dataset_dir {good} --output_dir {out}", 2, "`--checkpoint FI"),
    ("train movl_classification {good} --output_dir {out} --backbone resnet50 --backbone_weights {none}.pth", 2,
     "`--backbone_weights` names no file: there is no 'none.pth' in"),
    (f"{DVPT} --readout backbone", 2, "`--readout` has no effect while layers is 'all'"),
    ("run training --config_file {C}/train.json {C}/strategy_linear_probe.json --prompt_lr 1", 2, "`--prompt_lr` would "
     "have no effect with these config files"),
    (f"{SEGMENT} {{jpeg}} --epochs 1", 2, "Set `--warmup_epochs 0` for so short a training"),
    ("train movl_classification {good} --output_dir {out} --batch_size 0", 2, "`--batch_size` must be a whole number"),
    ("train movl_classification {none} --output_dir {out}", 2, "There is no data set at '{none}'"),
    ("evaluate {none} --dataset_dir {good}", 2, "There is no run at {none}. Expected the output_dir of a training"),
    ("evaluate {empty} --dataset_dir {good}", 2, "There is no run.json beside the checkpoint of {empty}"),
    ("report {empty}", 2, "Evaluate the run first: `movl-monai evaluate RUN --dataset_dir DIR`"),
    ("predict {none} {good} --output_dir {out}", 2, "There is no run and no exported model at {none}"),
    ("predict {used} {none} --output_dir {out}", 2, "`INPUT` names no file or folder: there is no 'none' in"),
    ("predict {used} {good} --output_dir {out} --outputs csv,xml", 2, "--outputs must be of csv, json"),
    ("predict {used} {good} --output_dir {good}/out", 2, "--output_dir lies inside of the input"),
    ("predict {used} {good} --output_dir {out} --batch_size 0", 2, "--batch_size must be 'auto' or a number"),
    ("predict {file} {good} --output_dir {out}", 2, "is not an exported model"),
    ("export {none}", 2, "There is no run at {none}"),
    (f"{COMPARE} --dataset_dir {{none}}", 2, "`--dataset_dir` names no file or folder: there is no 'none' in"),
    (f"{COMPARE} --output_dir {{good}}/out", 2, "--output_dir lies in the folder of the data set"),
    (f"{TRAIN} --output_dir {{good}}/out", 2, "--output_dir lies in the folder of the data set"),
    (f"{COMPARE} --arms jint", 2, "There is no arm 'jint' (did you mean 'joint'?)"),
    (f"{COMPARE} --epoch 1", 2, "reads 'epoch' (did you mean 'epochs'?)"),
    (f"{COMPARE} --epochs x", 2, "`--epochs` must be a whole number of at least 0"),
    ("ensemble {none} {empty} --output_dir {out}", 2, "There is no run at {none}"),
    ("robustness {none} --baseline {none} --dataset_dir {good} --output_dir {out}", 2, "There is no run at {none}"),
    ("fit {none} --output_dir {out}", 2, "`DATA` names no file or folder: there is no 'none' in"),
    ("fit {good} --output_dir {out} --minutes 0", 2, "--minutes must be above 0, got 0; 30 is usual"),
    ("fit {good} --output_dir {out} --task detection", 2, "--task must be one of classification, ordinal, multilabel,"),
    ("fit {good} --output_dir {out} --backbones resnet51", 2, "There is no backbone 'resnet51'"),
    ("fit {good} --output_dir {out} --epochz 2", 2, "reads 'epochz' (did you mean 'epochs'?)"),
    ("fit {good} --output_dir {good}/out", 2, "--output_dir lies in the folder of the data set"),
    ("fit {flat} --output_dir {out}", 2, "The folder 'flat' must hold one folder per class"),
    ("fit {one_class} --output_dir {out}", 2, "needs two or more classes, got 1: a. Add the images of another class"),
    ("ingest {none} --output {out}/manifest.csv", 2, "'none' does not exist; name the folder that holds the images"),
    ("check {none}", 2, "There is no file or folder 'none'"),
    ("phantom {file}/x", 2, "The folder cannot be written"),
    ("inspect {none}", 2, "There is nothing at {none}"),
    ("bundle copy movl_clasification {out}", 2, "did you mean 'movl_classification'?"),
]  # fmt: skip


@pytest.mark.parametrize(("command", "code", "message"), MISTAKES, ids=[row[0][-40:] for row in MISTAKES])
def test_a_mistake_is_answered_before_anything_is_loaded(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, code: int, message: str
) -> None:
    out, err = _said(folder, tmp_path, capsys, command, code)
    assert _filled(message, folder, tmp_path) in err
    assert err.startswith("movl-monai: ")
    assert out == ""


def test_no_mistake_imports_torch_or_monai(folder: Path, tmp_path: Path) -> None:
    """All rows in one process, and `check` of a list without pixels: modules are counted, not seconds."""
    commands = [[_filled(word, folder, tmp_path) for word in row[0].split()] for row in MISTAKES]
    assert {words[0] for words in commands} == {*COMMANDS}
    commands.append(["check", str(folder / "halves"), "--headers_only", "--num_workers", "0", "--no_progress"])
    script = (
        "import json, sys; from movl_monai.cli import main\n"
        "for words in json.loads(sys.argv[1]):\n"
        "    main(words)\n"
        "    if {'torch', 'monai'} & {*sys.modules}: sys.exit(f'{words} imported torch or MONAI')"
    )
    done = subprocess.run([sys.executable, "-c", script, json.dumps(commands)], check=False, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()[-500:]


FAST = "--image_size 32 --num_workers 0 --device cpu"
QUICK = f"--epochs 1 --prompt_width 3 {FAST}"
MASKS = f"--epochs 2 --warmup_epochs 0 {FAST}"
GOLDEN = ROOT / "tests/golden/runs"
PREDICTED = (
    f"predict {GOLDEN}/movl_classification/model.onnx {{good}} --num_workers 0 --output_dir {{trained}}/predicted"
)
RESUME = f"{TRAIN} {QUICK} --output_dir {{trained}} --resume true --dataset_dir"
LATE = [
    (f"{TRAIN} --device cuda", 2, "sees 0 CUDA device(s) here. Use `--device cpu`"),
    ("evaluate {trained} --dataset_dir {good} --device cuda", 2, "Use `--device cpu`, or check the driver"),
    ("predict {trained} {good} --output_dir {out} --device cuda:1", 2, "device is 'cuda:1', but torch"),
    (f"{TRAIN} {QUICK} --discrepancy kll", 2, "discrepancy must be one of ['cosine', 'kl', 'l1', 'mse'], got 'kll'"),
    (f"{TRAIN} {QUICK} --amp true", 2, "amp must be 'bf16', 'fp16' or null, got True"),
    ("train dvpt_classification {good} --output_dir {out} --backbone vit_small_dinov2 --image_size 100 --device cpu", 2,
     "must be a multiple of patch_size=14 for vit_small_patch14_dinov2, got 100; try 98 or 112"),
    (f"train movl_classification {{good}} --output_dir {{out}} --backbone resnet50 {QUICK} --backbone_weights "
     f"{GOLDEN}/tiny_vit.safetensors", 2, "do not fit ResNet: 265 missing"),
    (f"train movl_classification {{good}} --output_dir {{out}} --backbone resnet50 {QUICK}", 2, "could not be loaded "
     "from the hub (URLError: <urlopen error no network>). Check the network connection and the name, or give a local "
     "file with `--backbone_weights FILE`"),
    (f"{SEGMENT} {{jpeg}} {MASKS}", 2, "saved as JPEG need a threshold: `--mask_threshold 128`"),
    (f"{SEGMENT} {{swapped}} {MASKS}", 2, "the two seem to be swapped"),
    (f"{RESUME} {{halves}} --epochs 2", 2, "with other settings: joint: epochs 1 there, 2 now. Use the same settings"),
    (f"{RESUME} {{swapped_labels}}", 2, "with other settings: labels of the training images digest"),
    (f"{RESUME} {{other_classes}}", 2, "trained for the classes ['a', 'b'], this network has ['not a', 'not b']"),
    (f"evaluate {{trained}} --dataset_dir {{other_classes}} {FAST}", 2, "Class 'not a', 'not b' (domain id) is not "
     "one of the classes a, b; rename it"),
    (f"evaluate {{trained}} --dataset_dir {{copies}} {FAST}", 3, "6 images would be scored as test, although the "
     "network learned from them or from their patients in train, val or calibration"),
    ("predict {trained} {good} --output_dir {out} --device cpu --image_size 64", 2, "Use the same image_size,"),
    (f"run inferring --config_file {{C}}/inference.json {{C}}/backbone_resnet50.json --dataset_dir {{good}} {FAST} "
     "--output_dir {out} --checkpoint {trained}/models/model.pt --prompt_width 3 --backbone_weights null", 2,
     "was trained on the frozen weights of 'tf_efficientnet_lite0"),
    (f"predict {GOLDEN}/movl_classification/model.onnx {{empty}} --output_dir {{out}}", 2, "There is no file in the "
     "folder; give a folder of DICOM"),
    (PREDICTED.replace("movl", "dvpt"), 2, "holds predictions with another model; choose another --output_dir"),
]  # fmt: skip


@pytest.fixture(scope="module")
def trained(folder: Path) -> Path:
    """A training on `halves`, with predictions of another model in its folder."""
    for command in (f"{TRAIN} {QUICK} --dataset_dir {{halves}}", PREDICTED):
        assert main([_filled(word, folder, folder) for word in command.split()]) == 0
    return folder / "out"


@pytest.mark.parametrize(("command", "code", "message"), LATE, ids=[row[2][:40] for row in LATE])
@pytest.mark.filterwarnings("ignore")
def test_a_mistake_that_shows_later_is_answered(
    folder: Path,
    trained: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    code: int,
    message: str,
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.hub.download_url_to_file", unreachable)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(logging, "raiseExceptions", False)  # loggers of MONAI keep the stream of an earlier test
    assert message in _said(folder, tmp_path, capsys, command, code)[1]


def _said(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, code: int) -> tuple[str, str]:
    assert main([_filled(word, folder, tmp_path) for word in command.split()]) == code
    said = capsys.readouterr()
    assert "Traceback" not in said.out + said.err
    return said.out, " ".join(said.err.split())


def _filled(text: str, folder: Path, tmp_path: Path) -> str:
    places = {path.name: path for path in folder.iterdir()}
    places |= {"none": folder / "none", "out": tmp_path / "out", "trained": folder / "out"}
    return text.format(**CONFIGS, **places)


def test_the_names_of_corruptions_are_those_of_the_transforms() -> None:
    assert tuple(CORRUPTIONS) == CORRUPTION_NAMES


def test_an_interrupted_training_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("movl_monai.cli.run.run_workflow", stop)
    assert main(["run", "training", "--config_file", "train.json"]) == 130
    err = capsys.readouterr().err
    assert err.startswith("movl-monai: interrupted. ")
    assert "`--resume true`" in err


def test_only_errors_of_the_user_stay_out_of_the_logs(caplog: pytest.LogCaptureFixture) -> None:
    def log(error: BaseException) -> None:
        try:
            raise error
        except BaseException:
            logging.getLogger("anyone").exception("Exception: %s", error)

    with errors_shown_once():
        log(ConfigError("the user's"))
        log(KeyboardInterrupt("stopped"))
        log(RuntimeError("ours"))
    log(ConfigError("after"))
    assert [record.getMessage() for record in caplog.records] == ["Exception: ours", "Exception: after"]


@pytest.mark.parametrize(("of_monai", "error"), [(True, ConfigError("use `--epochs`")), (False, None)])
def test_monais_runner_ends_with_the_paragraph(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    of_monai: bool,
    error: Exception | None,
) -> None:
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    monkeypatch.setattr(errors, "errors_shown_once", lambda: _Nothing())
    if of_monai:
        monkeypatch.setattr(sys.modules["__main__"], "__spec__", _Nothing(name="monai.bundle.__main__"))
    show_user_errors()
    assert (sys.excepthook is sys.__excepthook__) is not of_monai
    if error is not None:
        wrapped = RuntimeError("Failed to evaluate")
        wrapped.__cause__ = error
        sys.excepthook(RuntimeError, wrapped, None)
        assert capsys.readouterr().err == "movl-monai: use `--epochs`\n"


class _Nothing:
    def __init__(self, name: str = "") -> None:
        self.name = name

    def __enter__(self) -> None: ...


@pytest.mark.slow
def test_monais_own_command_shows_no_traceback(tmp_path: Path) -> None:
    words = ["run", "training", "--config_file", str(CONFIGS["C"] / "train.json"), "--datset_dir", "x"]
    done = subprocess.run(
        [sys.executable, "-m", "monai.bundle", *words], check=False, capture_output=True, text=True, cwd=tmp_path
    )
    assert "did you mean 'dataset_dir'?" in done.stderr.splitlines()[-1]
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
