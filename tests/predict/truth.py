"""Tiny runs, and their predictions of the same images from every way to predict, by image, for comparison."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Events

from movl_monai.data import IdMap
from movl_monai.data.make_splits import make_kept_splits
from movl_monai.engines import open_run
from movl_monai.evaluation import StoredOutputs, read_outputs
from movl_monai.evaluation.collect import column
from movl_monai.evaluation.trust_record import Trusted, TrustRecord, read_trust, trained_state_sha256, write_trust
from movl_monai.experiments.ensemble import make_ensemble
from movl_monai.metrics.classification_metrics import softmax
from movl_monai.phantom import write_phantom
from tests.predict.conftest import make_run

__all__ = [
    "CLASSIFIERS",
    "TOLERANCE",
    "VIT",
    "Judged",
    "Key",
    "Said",
    "change_without_adapter",
    "differences",
    "evaluate",
    "judge_images",
    "judged_classifier",
    "key_of",
    "said_by",
    "spread_logits",
]

TOLERANCE = 1e-4
_LAST_DIGITS = 1e-5

VIT = {
    "_target_": "movl_monai.backbones.TimmBackbone",
    "name": "test_vit",
    "weights": None,
    "image_size": "@image_size",
    "frozen": "@backbone_frozen",
}
_CLASSES = ["no_lesion", "lesion"]
CLASSIFIERS: dict[str, dict[str, Any]] = {
    "movl_classification": {"class_names": _CLASSES, "prompt_width": 4},
    # 4 x 4 tokens; what DVPT adds is moved away from zero as all that trains is
    "dvpt_classification": {
        "class_names": _CLASSES,
        "backbone": {**VIT, "model_options": {"depth": 4}},
        "image_size": 64,
    },
    "movl_classification, all layers": {"class_names": _CLASSES, "prompt_width": 4, "layers": "all"},
    "movl_classification, ensemble": {},
}
_MEMBERS: list[tuple[str, dict[str, Any]]] = [
    ("movl_classification", {**CLASSIFIERS["movl_classification"], "image_size": 64}),
    ("dvpt_classification", CLASSIFIERS["dvpt_classification"]),
]

Key = tuple[str, int | None]
"""An image: its path below the folder of the images, and the number of its slice or frame."""


@dataclass(frozen=True)
class Said:
    """Predictions of images.

    Args:
        keys: the images, sorted.
        probabilities: float64 (N, C).
        predicted: class names.
        trusted: flags of the trust record.
    """

    keys: list[Key]
    probabilities: np.ndarray
    predicted: list[str]
    trusted: Trusted


@dataclass(frozen=True)
class Judged:
    """A run of a classifier and its evaluation, which wrote a trust record.

    Args:
        run: folder of the run.
        images: folder of the images, DICOM files.
        outputs: stored outputs of the evaluation.
        record: the trust record.
        keys: images of the outputs.
        report: report of the evaluation.
    """

    run: Path
    images: Path
    outputs: StoredOutputs
    record: TrustRecord
    keys: list[Key]
    report: dict[str, Any]

    @property
    def expected(self) -> Said:
        """The evaluation's probabilities, and the record's judgement of its logits and features."""
        order = sorted(range(len(self.keys)), key=lambda row: self.keys[row])
        outputs = self.outputs.take(order)
        logits = outputs.predictions.logits
        return Said(
            keys=[self.keys[row] for row in order],
            probabilities=softmax(logits),
            predicted=[self.outputs.class_names[number] for number in logits.argmax(axis=1)],
            trusted=self.record.apply(logits, outputs.features),
        )

    @property
    def clear(self) -> np.ndarray:
        """Images (N,), in the order of ``expected``, whose flags do not depend on rounding.

        Thresholds are scores of images, so that some scores equal them.
        """
        order = sorted(range(len(self.keys)), key=lambda row: self.keys[row])
        outputs, marks = self.outputs.take(order), []
        for scale in (1 - _LAST_DIGITS, 1, 1 + _LAST_DIGITS):
            trusted = self.record.apply(scale * outputs.predictions.logits, scale * outputs.features)
            marks.append(np.column_stack([trusted.outside, trusted.abstain, trusted.sets]))
        return np.all([one == marks[1] for one in marks], axis=(0, 2))


def judged_classifier(folder: Path, name: str) -> Judged:
    """Make a tiny run of one of the CLASSIFIERS, and evaluate it with the bundle's workflow on a phantom."""
    write_phantom(folder / "data", patients=(6, 12, 3, 3), images_per_patient=2, size=64, progress=False)
    images = folder / "data" / "images"
    settings = {"calibration_fraction": 0.5, "target_risk": 0.6}
    if name.endswith("ensemble"):
        members = [_spread(folder / kind, kind, images, **own) for kind, own in _MEMBERS]
        for member, temperature in zip(members, (0.8, 1.3), strict=True):
            _keep(member, folder / "data", temperature, **settings)
        run = make_ensemble(members, folder / "run")
        for member in members:
            shutil.rmtree(member)
        return judge_images(run.folder, folder / "data", images, folder / "evaluated")
    made = _spread(folder / "run", name.partition(",")[0], images, **CLASSIFIERS[name])
    return judge_images(made, folder / "data", images, folder / "evaluated", **settings)


def _spread(folder: Path, bundle: str, images: Path, **own: Any) -> Path:
    """Make a run whose logits differ between images."""
    run = open_run(make_run(folder, bundle, **own))
    preprocessing = run.preprocessing()
    spread_logits(run, [preprocessing({"image": str(path)})["image"] for path in sorted(images.rglob("*.dcm"))])
    return folder


def _keep(run: Path, data: Path, temperature: float, **settings: Any) -> None:
    """Write the files that an ensemble needs from its members: their splits, and a trust record with a temperature."""
    opened = open_run(run)
    own = {"dataset_dir": str(data.resolve()), "output_dir": str(run), "num_workers": 0, "device": "cpu"}
    parser = opened.parser("evaluate", **own, **settings)
    splits = make_kept_splits(parser.get_parsed_content("datalist"), parser.get_parsed_content("images"))
    opened.checkpoint.with_name("splits.csv").write_bytes(splits.write())
    known = {"checkpoint_sha256": trained_state_sha256(opened.checkpoint), "class_names": opened.class_names}
    write_trust(opened.checkpoint.with_name("trust.pt"), TrustRecord(**known, temperature=temperature))


def judge_images(run: Path, data: Path, images: Path, out: Path, **settings: Any) -> Judged:
    """Evaluate a run with its bundle's workflow, and record its result for every image."""
    workflow = evaluate(run, data, out, **settings)
    outputs, ids = read_outputs(out), workflow.get_parsed_content("id_map")
    checkpoint = open_run(run).checkpoint
    return Judged(
        run=run,
        images=images,
        outputs=outputs,
        record=read_trust(checkpoint.with_name("trust.pt"), checkpoint),
        keys=[key_of(ids, name, images) for name in outputs.predictions.ids],
        report=workflow.get_parsed_content("handlers")[1].report,
    )


def spread_logits(run: Any, images: list[torch.Tensor]) -> None:
    """Scale the last layer of a run so that its logits have mean 0 and standard deviation 1 over images."""
    network = run.network()
    last: Any = getattr(network.head, "classifier", network.head)
    with torch.inference_mode():
        logits = network(torch.stack(images)).transpose(0, 1).flatten(1)
    means, deviations = logits.mean(dim=1), logits.std(dim=1)
    with torch.no_grad():
        last.weight /= deviations.reshape(-1, *[1] * (last.weight.dim() - 1))
        last.bias.copy_((last.bias - means) / deviations)
    torch.save(network.state_dict(), run.checkpoint)


def change_without_adapter(run: Path) -> float:
    """Return the largest change of a logit if DVPT adds nothing."""
    network: Any = open_run(run).network()
    size = network.backbone.spec.image_size
    images = torch.rand(2, 3, size, size)
    matrices = [parameter for name, parameter in network.adapter.named_parameters() if name.endswith("up")]
    assert matrices
    with torch.no_grad():
        before = network(images)
        for matrix in matrices:
            matrix.zero_()
        return float((network(images) - before).abs().max())


def evaluate(
    run: Path,
    data: Path,
    out: Path,
    *,
    listen: Callable[[str, torch.Tensor], None] | None = None,
    prepare: Callable[[Any], None] | None = None,
    **settings: Any,
) -> Any:
    """Run the evaluation of a run's bundle, and return its parsed config.

    Args:
        run: folder of the run.
        data: the data set.
        out: folder of the results.
        listen: receives the id of each image and its logits.
        prepare: receives the parsed config before it runs.
        settings: settings of the bundle.
    """
    own = {"dataset_dir": str(data.resolve()), "output_dir": str(out), "num_workers": 0, "device": "cpu"}
    workflow = open_run(run).parser("evaluate", **own, **settings)
    evaluator = workflow.get_parsed_content("evaluator")

    def hear(engine: Any) -> None:
        for name, output in zip(column(engine.state.batch, "id") or [], engine.state.output, strict=True):
            if listen is not None:
                listen(name, torch.as_tensor(output["pred"]))

    evaluator.add_event_handler(Events.ITERATION_COMPLETED, hear)
    if prepare is not None:
        prepare(workflow)
    evaluator.run()
    return workflow


def key_of(ids: IdMap, image_id: str, images: Path) -> Key:
    """Return the image behind an id of a map."""
    item = ids.item_of(image_id)
    return Path(item["image"]).resolve().relative_to(images.resolve()).as_posix(), item.get("frame")


def said_by(out: Path, images: Path, class_names: list[str]) -> Said:
    """Return the predictions of the table in a folder."""
    ids = IdMap(out / "local" / "id_map.json")
    with (out / "predictions.csv").open(newline="", encoding="utf-8") as stream:
        rows = {key_of(ids, row["id"], images): row for row in csv.DictReader(stream) if row["status"] == "ok"}
    keys = sorted(rows)

    def numbers(*names: str) -> np.ndarray:
        return np.array([[float(rows[key][name] or "nan") for name in names] for key in keys])

    def flags(name: str) -> np.ndarray:
        return np.array([rows[key][name] == "yes" for key in keys])

    sets = [rows[key]["prediction_set"].split("|") for key in keys]
    return Said(
        keys=keys,
        probabilities=numbers(*(f"probability_{name}" for name in class_names)),
        predicted=[rows[key]["predicted"] for key in keys],
        trusted=Trusted(
            # empty where the model abstains
            probabilities=numbers(*(f"calibrated_{name}" for name in class_names)),
            ood_scores=numbers("ood_score")[:, 0],
            outside=flags("outside"),
            abstain=flags("abstain"),
            sets=np.array([[name in chosen for name in class_names] for chosen in sets]),
        ),
    )


def differences(found: Said, judged: Judged) -> dict[str, float]:
    """Return the largest differences from the evaluation.

    Raises:
        AssertionError: if the images differ, a number differs by more than 1e-4 (a score, relatively), or a flag
            differs that does not depend on rounding.
    """
    expected, clear = judged.expected, judged.clear
    assert found.keys == expected.keys
    np.testing.assert_allclose(found.probabilities, expected.probabilities, rtol=0, atol=TOLERANCE)
    one: Any = found.trusted
    other: Any = expected.trusted
    answered = np.isfinite(one.probabilities)
    np.testing.assert_array_equal(answered.all(axis=1), ~one.abstain)
    np.testing.assert_allclose(one.probabilities[answered], other.probabilities[answered], rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(one.ood_scores, other.ood_scores, rtol=TOLERANCE)
    for name in ("outside", "abstain", "sets"):
        np.testing.assert_array_equal(getattr(one, name)[clear], getattr(other, name)[clear], err_msg=name)
    assert found.predicted == expected.predicted
    return {
        "probabilities": float(np.abs(found.probabilities - expected.probabilities).max()),
        "calibrated": float(np.abs(one.probabilities - other.probabilities)[answered].max()),
        "ood_score": float(np.abs(one.ood_scores / other.ood_scores - 1).max()),
    }
