"""From a folder of images to an evaluated and exported model."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from movl_monai.bundles import find_bundle
from movl_monai.data.keep import Leak, leakage_error
from movl_monai.data.kept_splits import SPLITS_FILE, KeptSplits, read_kept_splits
from movl_monai.engines import check_output_dir, open_run
from movl_monai.errors import ConfigError, DataError, LeakageError
from movl_monai.evaluation import TRUST_FILE
from movl_monai.evaluation.evaluate import evaluate
from movl_monai.experiments.compare.data import TrainingData
from movl_monai.experiments.compare.folder import ComparisonFolder, lock
from movl_monai.experiments.compare.images import ComparisonImages
from movl_monai.experiments.compare.setup import fits, make_parser
from movl_monai.experiments.compare.training import Training, read_record, train_arm
from movl_monai.export.exporting import export_run
from movl_monai.files import jsonable, to_json, write_atomically
from movl_monai.ingest.examine import Preprocessing
from movl_monai.ingest.quality import has_leaks, lost_files
from movl_monai.ingest.run import Reading, check_manifest
from movl_monai.runs.keep_record import RECORD_FILE
from movl_monai.runs.verbatim import verbatim

from .budget import Budget, OutOfBudgetError, Watch, in_words
from .candidates import Candidate, Candidates, make_candidates
from .choice import Choice, OnVal, choose, validate
from .task import BUNDLES, Decision, check_minutes, decide, unit_overlays

__all__ = ["Fit", "fit"]

_LOGGER = logging.getLogger("movl_monai.fit")
_PACKAGE = logging.getLogger("movl_monai")
_FREE = ("num_workers", "cache_dir")  # settings that may differ between calls on one folder
_MODEL, _RECORD, _LOG = "model.onnx", "fit.json", "fit.log"
_ATTEMPTS = 5  # one per second, to get the folder: workers of a killed fit hold it a moment longer
_FEWEST = 3  # epochs, or a tenth of the planned ones, for which a training is worth its time
_OVERHEAD = 60.0  # seconds of evaluation and export beside the passes over the images
_DECODED = 20_000  # images up to which the look at the data set reads pixels


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Result of a fit.

    Args:
        folder: the output folder: a run like any other, with ``model.onnx``, ``report.html``, ``MODEL_CARD.md``.
        record: content of its ``fit.json``.
        report: content of ``evaluation/report.json``.
    """

    folder: Path
    record: Mapping[str, Any]
    report: Mapping[str, Any]


def fit(
    dataset_dir: str | os.PathLike[str],
    output_dir: str | os.PathLike[str],
    *,
    minutes: float = 30,
    task: str | None = None,
    bundle: str | os.PathLike[str] | None = None,
    backbones: Sequence[str] = (),
    seed: int = 0,
    overrides: Mapping[str, Any] | None = None,
) -> Fit:
    """Train the candidates of a bundle within a time budget, choose one on ``val``, evaluate and export it.

    A call on the same folder keeps its splits and its finished candidates, resumes a killed one, and has the whole
    budget again for those that were skipped.

    Args:
        dataset_dir: the data set, as for training.
        output_dir: for everything that is written; new, or of an earlier call with the same data and settings.
        minutes: time for everything, > 0. The first candidate is trained in any case.
        task: "classification" or "segmentation"; None decides by the data.
        bundle: name or folder of a bundle; None takes that of the task.
        backbones: names as in the bundle's ``backbone_NAME.json``, or "default"; none takes the bundle's own.
        seed: of split and training.
        overrides: ids of the bundle and their values; ``unit`` ("series", "study" or "patient") asks for one answer for
            each.

    Raises:
        ConfigError: for a setting that cannot be used, or a folder of other data or settings.
        DataError: if the data are not suitable.
        LeakageError: if images or patients are in two splits.
        ExportError: if the exported file would not compute the same.
    """
    _check(minutes)
    source, out, given = Path(dataset_dir), check_output_dir(output_dir), dict(overrides or {})
    unit = given.pop("unit", None)
    with _logged(out / _LOG), _alone(out):
        budget = Budget(minutes)
        decision = decide(source, task=task, given=given)
        for note in decision.notes:
            _say(note)
        root = find_bundle(bundle or BUNDLES[decision.task])
        candidates = make_candidates(
            root,
            overlays=[*decision.overlays, *unit_overlays(root, unit)],
            backbones=backbones,
            seed=seed,
            defaults=decision.settings,
            given=given,
        )
        shown = {name: value for name, value in given.items() if not name.endswith(("_dir", "_dirs"))}
        settings = {
            **{name: value for name, value in shown.items() if name not in _FREE},
            "task": decision.task,
            **({} if unit is None else {"unit": unit}),
            "bundle": root.name,
            "backbones": list(backbones),
            "seed": seed,
        }
        work = _Work(source, out, root, decision, candidates, settings, budget, seed)
        work.look()
        work.read()
        work.train()
        return work.finish()


class _Work:
    """State of a fit."""

    def __init__(
        self,
        source: Path,
        out: Path,
        bundle: Path,
        decision: Decision,
        candidates: Candidates,
        settings: Mapping[str, Any],
        budget: Budget,
        seed: int,
    ) -> None:
        self.source, self.out, self.bundle = source, out, bundle
        self.decision, self.candidates, self.budget, self.seed = decision, candidates, budget, seed
        self.work = ComparisonFolder(out / "work")
        # before there are splits nothing was done that other settings could contradict
        self.record: dict[str, Any] = read_record(out / _RECORD) if self.work.splits.is_file() else {}
        self._claim(settings)
        self.record |= {"format": 1, "decisions": list(decision.notes)}
        self.record.setdefault("candidates", {})
        self.record.setdefault("seconds", {})
        self.trainings: dict[str, Training] = {}

    def look(self) -> None:
        """Look at the data set as `movl-monai check` does.

        Raises:
            LeakageError: if its own splits leak.
            DataError: if too many files cannot be read.
        """
        folder = self.out / "data"
        _say(f"Looking at the data set; the page is {self.out.name}/data/quality.html.")
        with self._timed("look"):
            outcome = check_manifest(
                self.source,
                output_dir=folder,
                reading=self._reading(),
                mask_suffix=str(self.candidates.settings.get("mask_suffix") or ""),
            )
        alone = self._setting("one_image_per_patient", False)
        for finding in outcome.quality["findings"]:
            if finding["code"] == "patient_unknown" and alone:
                continue
            _say(f"Look at {finding['code']}: {finding['images']} images. {finding['text']}")
        if has_leaks(outcome.quality):
            leaks = [finding["code"] for finding in outcome.quality["findings"] if finding["level"] == "leak"]
            raise LeakageError(
                f"LEAKAGE in the data set ({', '.join(leaks)}): figures on val and test would be too good. "
                f"{self.out.name}/data/ingest_report.csv and quality.html show which images. Move each patient and "
                "each copy to one split, or leave the splits out to have them made by patient."
            )
        lost, files = lost_files(outcome.quality["statuses"]), outcome.quality["files"]
        share = self._setting("max_unreadable", 0.05)
        if lost > share * files:
            raise DataError(
                f"{lost} of {files} files cannot be read, more than --max_unreadable {share:g} allows. "
                f"{self.out.name}/data/ingest_report.csv lists them with reasons. Mend or remove them, or allow more."
            )

    def read(self) -> None:
        """Read and decode the training images; make and keep the splits."""
        _say("Reading the training images.")
        common = self.candidates.common
        with self._timed("decode"):
            self.images = ComparisonImages(
                common,
                self.work,
                dataset_dir=str(self.source),
                cache_dir=self.cache,
                draws=1,
                chosen={},
            )
            lists = self.images.lists[0]
            self._claim({**self.record["settings"], **{f"{n} images": d for n, d in lists.fingerprints.items()}})
            self.data: TrainingData = self.images.training()
        try:
            self._refuse_copies()
            self._refuse_known_images()
        except LeakageError:
            self.work.splits.unlink()  # other data will need other splits
            raise
        sizes = lists.sizes()
        self.record["images"] = sizes
        _say("Images: " + ", ".join(f"{name} {part['images']}" for name, part in sizes.items()) + ".")
        per_image = self.record["seconds"]["decode"] / max(1, len(self.data.images))
        again = self.record["seconds"].get("forward", 0.0)  # of an earlier call
        self.budget.reserve = _OVERHEAD + per_image * self._images_to_evaluate() + again
        self._keep()

    def train(self) -> None:
        """Train the candidates that fit into the budget, the simplest first, and choose one."""
        self.on_val: dict[str, OnVal] = {}
        for candidate in self.candidates.ordered:
            self._train(candidate)
        exact = [candidate.name for candidate in self.candidates.ordered if candidate.exact]
        self.choice: Choice = choose(self.on_val, exact=exact)
        for name, difference in self.choice.differences.items():
            self.record["candidates"][name]["difference"] = dict(difference)
        for name in self.on_val:
            if name == self.choice.name:
                self.record["candidates"][name].pop("difference", None)
        self.record |= {"chosen": self.choice.name, "reason": self.choice.reason}
        self._keep()
        _say(f"Chosen: {self.choice.name}: {self.choice.reason}.")

    def finish(self) -> Fit:
        """Evaluate the chosen candidate on val and test, and export it, unless that was done before."""
        training = self.trainings[self.choice.name]
        if self.record.get("finished") != training.settings or not self._is_complete():
            self.record.pop("finished", None)
            self._keep()
            self._copy(self._folder(self.choice.name))
            self._say_look(training)
            with self._timed("evaluate"):
                self._evaluate()
            _say("Exporting it.")
            with self._timed("export"):
                (file,) = export_run(self.out, "onnx", output=self.out / _MODEL, bundle_dir=self.bundle)
            parity = {"logits": file.parity.logits, "tolerance": file.parity.tolerance, "images": file.parity.images}
            self.record["model"] = {"megabytes": file.megabytes, "parity": parity}
            self.record["finished"] = training.settings
        self.record["seconds"]["all"] = self.record["seconds"].get("all", 0.0) + self.budget.elapsed()
        self._keep()
        report = read_record(self.out / "evaluation" / "report.json")
        return Fit(folder=self.out, record=self.record, report=report)

    def _say_look(self, training: Training) -> None:
        """Count a look at test: another candidate, chosen in a later call, looks again."""
        looks = self.record.setdefault("looks_at_test", [])
        look = f"{self.choice.name} {training.settings[:12]}"
        looks += [look] if look not in looks else []
        self._keep()
        _say("Evaluating the chosen candidate; test and OOD images are looked at once, now.")
        if len(looks) > 1:
            _say(
                f"This is look number {len(looks)} at test in this folder: another candidate was evaluated before. Do "
                "not choose between them by these figures."
            )

    @property
    def cache(self) -> Path:
        """Folder of features."""
        return Path(self.candidates.settings.get("cache_dir") or self.work.path / "cache")

    def _folder(self, name: str) -> Path:
        return self.work.path / name

    def _claim(self, settings: Mapping[str, Any]) -> None:
        """Refuse the folder of another data set or other settings; note the settings."""
        wanted = jsonable(dict(settings))
        there = self.record.get("settings", wanted)
        names = {name for name in {*there, *wanted} if name not in _IMAGES or (name in there and name in wanted)}
        differing = sorted(name for name in names if there.get(name) != wanted.get(name))
        if differing:
            shown = "; ".join(
                f"{n}: {_shown(n, there.get(n))} there, {_shown(n, wanted.get(n))} now" for n in differing
            )
            raise ConfigError(
                f"--output_dir {self.out.name} holds a fit of other data or settings ({shown}). Give those settings "
                "to resume it, or choose another --output_dir."
            )
        self.record["settings"] = {**there, **wanted}

    def _setting(self, name: str, default: Any) -> Any:
        """Return the value of an id that all candidates share; the default if the bundle has no such id."""
        config = self.candidates.common.train
        return self._value(config, name) if name in config else default

    @staticmethod
    def _value(config: Mapping[str, Any], name: str) -> Any:
        return make_parser(config, {}).get_parsed_content(name)

    def _reading(self) -> Reading:
        """Return how the training reads its files."""
        seen = {name: self._setting(name, default) for name, default in vars(Preprocessing()).items()}
        size = seen["image_size"]
        return Reading(
            preprocessing=Preprocessing(**{**seen, "image_size": size if isinstance(size, int) else max(size)}),
            headers_only=self.decision.images > _DECODED,
            num_workers=os.cpu_count() or 1,
            patient_pictures=int(self.candidates.evaluation.get("patient_pictures", 0)),
            patient_pattern=self._setting("patient_pattern", None),
            id_domain=self._setting("id_domain", "id"),
            encoding=self._setting("encoding", None),
            progress=False,
        )

    def _refuse_copies(self) -> None:
        """Refuse the same pixels in two splits, which splits that were made here can bring about."""
        kept = read_kept_splits(self.work.splits) or KeptSplits([])
        codes = {
            kept.images[row].image
            for rows in kept.by_pixels.values()
            if len({kept.images[row].split for row in rows} - {""}) > 1
            for row in rows
        }
        whole = self.images.lists[0].training.whole
        keys = whole.id_map.keys()
        leaks = [
            Leak(path=str(item["image"]), found="pixels", domain=str(item["domain"]))
            for item in (whole if codes else ())
            if item["domain"] == whole.id_domain and kept.image_code(keys[item["id"]][0]) in codes
        ]
        if leaks:
            listed = leakage_error(leaks, self.work.path / "local")
            raise LeakageError(
                f"LEAKAGE: {len(leaks)} images have the same pixels as images of another split. They are listed in "
                f"{self.work.path.name}/local/leakage.csv, on this machine only. Keep one copy of each, or give the "
                "copies one patient_id in a manifest."
            ) from listed

    def _refuse_known_images(self) -> None:
        """Refuse images and patients of the training in other domains, before anything is trained."""
        places = {"dataset_dir": str(self.source), "output_dir": str(self.work.path)}
        parser = make_parser(self.candidates.common.evaluate, {**places, "splits_file": str(self.work.splits)})
        parser.get_parsed_content("datalist")

    def _images_to_evaluate(self) -> int:
        return len(self.data.images) + len(self.images.lists[0].test)

    def _train(self, candidate: Candidate) -> None:
        name = candidate.name
        entry = self.record["candidates"].setdefault(name, {"about": candidate.about})
        if self._is_skipped(candidate, entry):
            return
        begin = time.monotonic()
        _say(f"{name}: {candidate.about}.")
        watch = self._watch(candidate, may_raise="values" not in entry)
        try:
            training = self._fit_candidate(candidate, entry.get("values", {}), watch)
        except OutOfBudgetError as error:
            entry["predicted_seconds"] = error.predicted
            watch = self._watch(candidate, may_raise=False)
            epochs = self._epochs_in_budget(candidate, error)
            if epochs == 0:
                self._skip(name, entry, f"its training of {in_words(error.predicted)} does not fit into the budget")
                return
            if epochs < error.epochs and fits(candidate.setup.train, "epochs"):
                self._shorten(candidate, entry, error, epochs)
            training = self._fit_candidate(candidate, entry.get("values", {}), watch)
        if watch.stopped is not None:
            entry["stopped"] = f"by the budget, after {watch.stopped} whole epochs"
            entry.setdefault("planned_epochs", watch.trainer.state.max_epochs)
        self._validate(candidate, training, entry, watch.evaluator)
        entry["seconds"] = entry.get("seconds", 0.0) + time.monotonic() - begin
        if watch.predicted is not None:
            entry["predicted_seconds"] = watch.predicted
        if watch.validation:
            self._add_forward(watch.validation)
        self._keep()

    def _is_skipped(self, candidate: Candidate, entry: dict[str, Any]) -> bool:
        """Skip a candidate that is not worth its time, or has none; exact probes and the first one never are."""
        if not self.on_val or candidate.exact or self._is_trained(candidate.name):
            return False
        if best := [name for name, found in self.on_val.items() if found.is_perfect()]:
            self._skip(candidate.name, entry, f"nothing can be clearly better than {best[0]} on val")
            return True
        if self.budget.left() > 0:
            return False
        self._skip(candidate.name, entry, "nothing is left of the budget")
        return True

    def _watch(self, candidate: Candidate, *, may_raise: bool) -> Watch:
        """Return the watch of a training; of the first candidate one epoch is trained in any case."""
        return Watch(self.budget, say=_say, name=candidate.name, least=int(not self.on_val), may_raise=may_raise)

    def _epochs_in_budget(self, candidate: Candidate, error: OutOfBudgetError) -> int:
        """Return the epochs for which a candidate is trained instead of all; 0 if it is not worth it.

        The candidates that wait share the time that is left, but none is trained for less than the fewest epochs.
        """
        waiting = [one for one in self.candidates.ordered if not (one.exact or one.name in self.on_val)]
        share = len(waiting[waiting.index(candidate) :])
        fair, all_of_it = (
            int(max(0.0, self.budget.left() / parts - error.closing) // error.per_epoch) for parts in (share, 1)
        )
        can_shorten = fits(candidate.setup.train, "epochs")
        fewest = min(error.epochs, max(_FEWEST, error.epochs // 10)) if can_shorten else error.epochs
        if all_of_it < fewest:
            return 0 if self.on_val else max(1, all_of_it)
        return max(fair, fewest)

    def _shorten(self, candidate: Candidate, entry: dict[str, Any], error: OutOfBudgetError, epochs: int) -> None:
        """Note the values of a training of fewer epochs; stages and the warm-up are shortened alike."""
        config = candidate.setup.train
        values = {name: self._value(config, name) for name in ("epochs", "warmup_epochs") if fits(config, name)}
        values = {name: int(value * epochs / error.epochs) for name, value in values.items()}
        entry["values"] = {**values, "epochs": max(1, values["epochs"])}
        entry["planned_epochs"] = error.epochs
        self._keep()
        _say(
            f"{candidate.name}: {in_words(error.predicted)} are more than the budget has; it is trained for fewer "
            f"epochs: {epochs}. More --minutes and another --output_dir train longer."
        )

    def _is_trained(self, name: str) -> bool:
        return (self._folder(name) / "training.json").is_file()

    def _add_forward(self, seconds: float) -> None:
        """Add the network's passes over the evaluated images to the reserve, once."""
        if "forward" not in self.record["seconds"]:
            per_image = seconds / len(self.data.images.select(split="val"))
            self.record["seconds"]["forward"] = per_image * self._images_to_evaluate()
            self.budget.reserve += self.record["seconds"]["forward"]

    def _fit_candidate(self, candidate: Candidate, values: Mapping[str, Any], watch: Watch) -> Training:
        return train_arm(
            candidate.setup,
            self.data,
            values=values,
            seed=self.seed,
            folder=self._folder(candidate.name),
            cache_dir=self.cache,
            data_digest=self.images.lists[0].fingerprints["training"],
            watch=watch,
        )

    def _validate(self, candidate: Candidate, training: Training, entry: dict[str, Any], evaluator: Any) -> None:
        name = candidate.name
        if training.failed:
            entry |= {"state": "failed", "failed": training.failed}
            _say(f"{name}: failed: {training.failed}")
            return
        folder = self._folder(name)
        on_val = validate(
            candidate.setup,
            self.data,
            checkpoint=folder / "models" / "model.pt",
            metric=training.metric,
            output_dir=folder,
            evaluator=evaluator,
        )
        self.on_val[name], self.trainings[name] = on_val, training
        entry |= {
            "state": "trained",
            "figure": on_val.figure,
            "value": on_val.value(),
            "interval": on_val.interval(),
            "n": len(on_val),
            "epochs": training.epochs,
            "epoch": training.epoch,
            "trainable_parameters": training.trainable_parameters,
        }
        kept = " (its start: no epoch was clearly better)" if training.epochs and training.epoch == 0 else ""
        _say(f"{name}: {on_val.figure.replace('_', ' ')} {on_val.value():.3f} on val{kept}.")

    def _skip(self, name: str, entry: dict[str, Any], reason: str) -> None:
        entry |= {"state": "skipped", "skipped": reason}
        _say(f"{name}: skipped; {reason}.")
        self._keep()

    def _copy(self, folder: Path) -> None:
        """Make the chosen training the run of the output folder."""
        models = self.out / "models"
        models.mkdir(parents=True, exist_ok=True)
        (models / TRUST_FILE).unlink(missing_ok=True)  # of the previous choice
        for name in ("model.pt", RECORD_FILE, SPLITS_FILE):
            write_atomically(models / name, (folder / "models" / name).read_bytes())

    def _evaluate(self) -> None:
        own = {
            name: value
            for name, value in self.candidates.settings.items()
            if name.endswith(("_dir", "_dirs")) or name in ("device", "num_workers", "batch_size")
        }
        own.pop("cache_dir", None)
        page = evaluate(
            open_run(self.out, bundle_dir=self.bundle),
            log=False,
            dataset_dir=verbatim(str(self.source)),
            overwrite=True,
            **own,
            **self.candidates.evaluation,
        )
        for path in (page, page.with_name("MODEL_CARD.md"), page.with_name("model_card.json")):
            shutil.copyfile(path, self.out / path.name)

    def _is_complete(self) -> bool:
        names = (_MODEL, "report.html", "MODEL_CARD.md", "evaluation/report.json", "models/model.pt")
        return all((self.out / name).is_file() for name in names)

    @contextlib.contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        begin = time.monotonic()
        yield
        self.record["seconds"][name] = time.monotonic() - begin
        self._keep()

    def _keep(self) -> None:
        write_atomically(self.out / _RECORD, to_json(jsonable(self.record)).encode())


_IMAGES = ("training images", "test images")


def _shown(name: str, value: Any) -> str:
    if name in _IMAGES:
        return "none" if value is None else f"digest {str(value)[:8]}"
    return "not set" if value is None else str(value)


def _check(minutes: float) -> None:
    check_minutes(minutes)
    missing = [name for name in ("onnx", "onnxruntime", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"fit exports the model as ONNX, which needs {', '.join(missing)}; install them with "
            "`pip install 'movl-monai[export]'`."
        )


def _say(text: str) -> None:
    _LOGGER.info(text)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    for attempt in range(_ATTEMPTS):
        with lock(folder / ".lock", wait=False) as mine:
            if mine:
                yield
                return
        if attempt == 0:
            _say(f"Waiting for another fit in {folder.name}.")
        time.sleep(1)
    raise ConfigError(f"Another fit is at work in {folder.name}; wait for it, or choose another --output_dir.")


@contextlib.contextmanager
def _logged(path: Path) -> Iterator[None]:
    """Append the records of this package to a file."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    level = _PACKAGE.level
    _PACKAGE.addHandler(handler)
    _PACKAGE.setLevel(logging.INFO)
    try:
        yield
    finally:
        _PACKAGE.removeHandler(handler)
        _PACKAGE.setLevel(level)
        handler.close()
