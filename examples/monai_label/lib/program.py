"""The program `movl-monai` of another environment: predictions of one image, and a training on labelled images."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SOME_FAILED = 4  # exit code: some files could not be predicted, the rest is done
NOT_SAID = ("id", "status", "reason", "format", "probabilities")  # of a row in predictions.json


class ProgramError(Exception):
    """The program ended with an error; its text is the program's own paragraph."""


class Program:
    """`movl-monai`, started once for each call.

    Args:
        command: path or name of the program.
    """

    def __init__(self, command: str) -> None:
        self.command = command

    def run(self, *words: str, accepted: tuple[int, ...] = (0,)) -> None:
        """Run a command.

        Raises:
            ProgramError: if there is no such program, or its exit code is none of ``accepted``.
        """
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        try:
            ended = subprocess.run([self.command, *words], capture_output=True, text=True, env=environment, check=False)
        except OSError as error:
            raise ProgramError(
                f"Cannot start '{self.command}' ({error.strerror}). Expected the program movl-monai of the environment "
                "in which movl_monai is installed; give its path: --conf movl ENVIRONMENT/bin/movl-monai"
            ) from error
        if ended.returncode not in accepted:
            raise ProgramError(ended.stderr.strip() or f"{words[0]} ended with exit code {ended.returncode}.")

    def describe(self, model: str) -> tuple[str, list[str]]:
        """Return the task of a model, such as "classification" or "segmentation", and the names of its classes.

        A small made image is predicted for it, so a model that cannot be opened is an error at once.
        """
        with tempfile.TemporaryDirectory() as folder:
            image = Path(folder) / "image.pgm"
            image.write_bytes(b"P5 64 64 255\n" + bytes(range(256)) * 16)
            found = self._predict(model, image, Path(folder) / "out", "json")
            return found["task"], found["class_names"]

    def predict(self, model: str, image: str, *, task: str) -> tuple[str | None, dict[str, Any]]:
        """Predict an image, or a folder with the DICOM files of a series.

        Args:
            model: run, or exported file.
            image: file or folder.
            task: task of the model.

        Returns:
            path of the mask, a new file that the caller removes, or None; and JSON-able facts. For images the row of
            predictions.json, with ``label`` (None if the model abstains) and ``prediction``, which lists ``idx``,
            ``label`` and ``score`` of every class in the form of MONAI Label; several images of a series are
            ``results`` with these entries each. For a segmentation ``label_names`` has the numbers of the classes in
            the mask, and ``results`` their sizes.

        Raises:
            ProgramError: if nothing could be predicted, or a folder has several masks.
        """
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "out"
            found = self._predict(model, image, out, "json,nifti,png" if task == "segmentation" else "json")
            rows = [row for row in found["results"] if row["status"] == "ok"]
            if not rows:
                reasons = sorted({str(row["reason"]) for row in found["results"]})
                raise ProgramError(f"The image could not be predicted: {', '.join(reasons) or 'it is no image'}.")
            about = {"use": found["use"], "model": found["model"]}
            names = found["class_names"]
            if task != "segmentation":
                results = [_classified(row, names) for row in rows]
                return None, about | (results[0] if len(results) == 1 else {"results": results})
            masks = [out / file for file in _outputs(out) if file.startswith("masks/")]
            if len(masks) != 1:
                reasons = sorted({str(row.get("not_written")) for row in rows if row.get("not_written")})
                why = f" ({', '.join(reasons)})" if reasons else ""
                raise ProgramError(
                    f"Expected one mask, got {len(masks)}{why}. Open one image, or one series of evenly spaced slices."
                )
            suffix = "".join(masks[0].suffixes)
            with tempfile.NamedTemporaryFile(suffix=suffix, delete=False) as mask:
                shutil.copyfile(masks[0], mask.name)
            numbers = {name: number for number, name in enumerate(names) if number}
            sizes = [{key: row[key] for key in row if key.startswith(("pixels_", "mm2_", "ml_"))} for row in rows]
            return mask.name, about | {"label_names": numbers, "results": sizes}

    def fit(
        self, labelled: Sequence[Mapping[str, str]], folder: Path, *, minutes: float, settings: Sequence[str]
    ) -> None:
        """Train on labelled images with `movl-monai fit`; the result lies in ``folder/fit``.

        Args:
            labelled: columns of a manifest, ``path`` with ``label`` or ``mask``.
            folder: new folder, in which the manifest and the result lie.
            minutes: time for everything.
            settings: further options of the command.
        """
        manifest, out = folder / "data" / "manifest.csv", folder / "fit"
        manifest.parent.mkdir(parents=True)
        with manifest.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, fieldnames=list(labelled[0]))
            writer.writeheader()
            writer.writerows(labelled)
        self.run("fit", str(manifest), "--output_dir", str(out), "--minutes", str(minutes), "--quiet", *settings)

    def _predict(self, model: str, image: str | Path, out: Path, outputs: str) -> dict[str, Any]:
        words = ["--output_dir", str(out), "--outputs", outputs, "--paths", "--num_workers", "0", "--quiet"]
        self.run("predict", model, str(image), *words, accepted=(0, SOME_FAILED))
        return dict(json.loads((out / "predictions.json").read_text(encoding="utf-8")))


def _classified(row: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    found = {key: value for key, value in row.items() if key not in NOT_SAID}
    scores = zip(names, row.get("probabilities") or (), strict=False)
    prediction = [{"idx": number, "label": name, "score": score} for number, (name, score) in enumerate(scores)]
    return found | {"label": None if row.get("abstain") else row.get("predicted"), "prediction": prediction}


def _outputs(out: Path) -> list[str]:
    listed = out / "local" / "outputs.csv"
    if not listed.is_file():
        return []
    with listed.open(newline="", encoding="utf-8") as stream:
        return [row["file"] for row in csv.DictReader(stream)]
