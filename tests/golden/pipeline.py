"""The commands of the golden set: phantom, ingest, then training to export with each bundle, on tiny images."""

from __future__ import annotations

import importlib
import os
import secrets
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.evaluation.masks import write_images

__all__ = ["Step", "run_steps", "steps"]

ROOT = Path(__file__).resolve().parents[2]
SIZE = 64
SHARED = ("--image_size", str(SIZE), "--num_workers", "0", "--device", "cpu")
TINY_VIT = (
    "--backbone",
    "{'_target_': 'movl_monai.backbones.TimmBackbone', 'name': 'test_vit', 'weights': None, "
    "'image_size': '@image_size', 'frozen': '@backbone_frozen'}",
)
SETTINGS = {
    "movl_classification": ("--prompt_width", "8", "--epochs", "2", "--batch_size", "8"),
    "dvpt_classification": (*TINY_VIT, "--epochs", "2", "--batch_size", "8", "--warmup_epochs", "0"),
    "dvpt_segmentation": (
        *TINY_VIT,
        *("--decoder_width", "16", "--epochs", "2", "--batch_size", "4", "--warmup_epochs", "0"),
        *("--mask_class_names", "['background', 'organ', 'lesion']"),
    ),
}
OUTPUTS = {
    "movl_classification": "csv,json,sr,sc,png",
    "dvpt_classification": "csv,json,sr,sc",
    "dvpt_segmentation": "csv,json,seg,sc,nifti,png",
}
EXPORTS = {
    "movl_classification": ("onnx", "torchscript", "torch-export"),
    "dvpt_classification": ("onnx",),
    "dvpt_segmentation": ("onnx", "torchscript"),
}


@dataclass(frozen=True)
class Step:
    """One command.

    Args:
        name: of the step, and of the files that keep what it printed.
        words: of the command line.
    """

    name: str
    words: tuple[str, ...]


def steps() -> Iterator[Step]:
    """Yield the commands in order; paths are relative to the folder in which they run."""
    small = ("--patients", "6", "3", "3", "3", "--images_per_patient", "2", "--size", str(SIZE))
    yield Step("phantom", ("phantom", "phantom", *small))
    looked = ("--id_map", "local/id_map.json", "--workers", "1", "--no_progress")
    yield Step("ingest", ("ingest", "phantom/images", "--out", "ingest/manifest.csv", *looked))
    yield Step("check", ("check", "phantom/manifest.csv", "--output_dir", "checked", *looked))
    for bundle in SETTINGS:
        yield from _bundle(bundle)
    yield Step("several_runs", ("report", "movl_classification", "dvpt_classification", "--output_dir", "several"))
    yield Step(
        "robustness",
        (
            *("robustness", "movl_classification", "--baseline", "dvpt_classification", "--dataset_dir", "phantom"),
            *("--output_dir", "robustness", "--images", "4", "--severities", "1,5", "--corruptions"),
            *("gaussian_noise,contrast", "--rounds", "20", "--device", "cpu", "--num_workers", "0"),
        ),
    )


def _bundle(bundle: str) -> Iterator[Step]:
    configs = ROOT / "bundles" / bundle / "configs"
    train, evaluate = str(configs / "train.json"), str(configs / "evaluate.json")
    data = "masks" if bundle == "dvpt_segmentation" else "phantom"
    images = "masks/test/images" if bundle == "dvpt_segmentation" else "phantom/images"
    own = ("--dataset_dir", data, "--output_dir", bundle, *SHARED, *SETTINGS[bundle])
    yield Step(f"{bundle}.train", ("run", "training", "--config_file", train, *own))
    yield Step(f"{bundle}.run_evaluate", ("run", "evaluating", "--config_file", train, evaluate, *own))
    again = ("--dataset_dir", data, "--num_workers", "0", "--device", "cpu", "--overwrite", "true")
    yield Step(f"{bundle}.evaluate", ("evaluate", bundle, *again))
    yield Step(f"{bundle}.report", ("report", bundle))
    predicted = ("--out", f"{bundle}_predicted", "--outputs", OUTPUTS[bundle], "--workers", "0", "--device", "cpu")
    yield Step(f"{bundle}.predict", ("predict", bundle, images, "--batch_size", "4", *predicted))
    if bundle == "dvpt_segmentation":
        dicom = ("--out", f"{bundle}_dicom", "--outputs", "csv,seg,sc,png", "--workers", "0", "--device", "cpu")
        yield Step(f"{bundle}.predict_dicom", ("predict", bundle, "phantom/images", "--batch_size", "4", *dicom))
    suffixes = {"onnx": "onnx", "torchscript": "ts", "torch-export": "pt2"}
    for kind in EXPORTS[bundle]:
        output = f"{bundle}_exported/model.{suffixes[kind]}"
        yield Step(f"{bundle}.export_{kind}", ("export", bundle, "--format", kind, "--output", output))
    exported = (f"{bundle}_exported/model.onnx", images, "--out", f"{bundle}_onnx", "--workers", "0", "--device", "cpu")
    yield Step(f"{bundle}.predict_onnx", ("predict", *exported, "--batch_size", "4", "--outputs", "csv,json"))
    yield Step(f"{bundle}.inspect", ("inspect", f"{bundle}/models/run.json", "--json"))
    yield Step(f"{bundle}.inspect_onnx", ("inspect", f"{bundle}_exported/model.onnx", "--json"))


def run_steps(folder: Path) -> None:
    """Run all commands in a folder, each in a process of its own; what they print is kept in its folder ``printed``.

    Args:
        folder: new or empty.
    """
    write_images(folder / "masks", splits=(("train", 6), ("val", 3), ("test", 4)), size=48)
    printed = folder / "printed"
    printed.mkdir()
    _import_frameworks()
    for step in steps():
        _fix_times(folder)
        begin = time.perf_counter()
        code = _run(step, folder, printed)
        (printed / f"{step.name}.code").write_text(f"{code}\n", encoding="utf-8")
        print(f"{step.name}: exit code {code} after {time.perf_counter() - begin:.0f} s", file=sys.stderr, flush=True)


def _fix_times(folder: Path) -> None:
    """Give images one time: journals know files by it."""
    for path in (*folder.glob("phantom/**/*"), *folder.glob("masks/**/*")):
        os.utime(path, (1.7e9, 1.7e9))


def _import_frameworks() -> None:
    """Import once what every command would import for seconds."""
    for name in (
        "torch",
        "torchvision",
        "timm",
        "monai.bundle",
        "monai.engines",
        "onnxruntime",
        "onnxscript",
        "optuna",
    ):
        importlib.import_module(name)


def _run(step: Step, folder: Path, printed: Path) -> int:
    """Run a command in a fork of this process, with a fixed salt."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 1
    try:
        for stream, suffix in ((1, "out"), (2, "err")):
            os.dup2(os.open(printed / f"{step.name}.{suffix}", os.O_WRONLY | os.O_CREAT, 0o644), stream)
        os.chdir(folder)
        sys.argv = ["movl-monai", *step.words]
        secrets.token_bytes = lambda count=None: b"\x07" * (count or 32)
        code = importlib.import_module("movl_monai.__main__").main()
    except SystemExit as error:
        code = int(error.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        for written in (sys.stdout, sys.stderr):
            written.flush()
        os._exit(code)
