"""Train one arm with one set of values and one seed, and measure it; a finished training is not repeated."""

from __future__ import annotations

import gc
import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Events

from movl_monai.engines import PARTS, unwrap
from movl_monai.errors import NonFiniteLossError, user_error
from movl_monai.experiments.compare.data import TrainingData
from movl_monai.experiments.compare.setup import ArmSetup, make_parser, settings_digest
from movl_monai.files import jsonable, to_json, write_atomically
from movl_monai.heap import give_back_free_memory

__all__ = ["PeakMemory", "Training", "read_record", "train_arm", "training_of"]


class PeakMemory:
    """Measure the largest memory in use while the ``with`` block runs.

    On CUDA it is the memory of tensors (``torch.cuda.max_memory_allocated``). Elsewhere it is the resident memory of
    the whole process, sampled by a thread: it includes the libraries and the shared images, which are the same for all
    arms. Free memory of earlier work is first returned to the system, if the C library supports it.

    Args:
        device: of the work.
        interval: seconds between samples.

    Attributes:
        peak: bytes, after the block.
        kind: "cuda" or "process".

    Example:
        >>> with PeakMemory("cpu") as memory:
        ...     block = torch.ones(1000)
        >>> memory.kind, memory.peak > 0
        ('process', True)
    """

    def __init__(self, device: str | torch.device = "cpu", *, interval: float = 0.02) -> None:
        self.device = torch.device(device)
        self.kind = "cuda" if self.device.type == "cuda" else "process"
        self.interval = interval
        self.peak = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> PeakMemory:
        gc.collect()
        if self.kind == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)
            return self
        give_back_free_memory()
        self._stop.clear()
        self._sample()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: Any) -> None:
        if self.kind == "cuda":
            self.peak = int(torch.cuda.max_memory_allocated(self.device))
            return
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self._sample()

    def _watch(self) -> None:
        while not self._stop.wait(self.interval):
            self._sample()

    def _sample(self) -> None:
        import psutil

        self.peak = max(self.peak, int(psutil.Process().memory_info().rss))


@dataclass(frozen=True, kw_only=True)
class Training:
    """Result of a training.

    Args:
        settings: SHA-256 of everything that determines the training.
        metric: name of the figure on ``val`` that selects the state.
        score: its value at the selected state; None if the training failed.
        tie_break: the figure that decides between equal scores, at the selected state; None if there is none.
        epoch: epoch of the selected state, 0 is the state before the first step.
        epochs: epochs trained.
        trainable_parameters: number of parameters that some stage trains or solves.
        backbone_percent: trainable parameters in percent of the backbone's.
        checkpoint_bytes: size of the checkpoint.
        train_seconds: wall time of the trainer, with its validations. It includes the features of the images only if
            the shared ones cannot be used, as with a prompt before the encoder.
        peak_memory: bytes, see :class:`PeakMemory`.
        memory: "process" or "cuda".
        images: numbers of training and validation images.
        failed: reason for a missing result, "" otherwise.
    """

    settings: str
    metric: str = ""
    score: float | None = None
    tie_break: float | None = None
    epoch: int = 0
    epochs: int = 0
    trainable_parameters: int = 0
    backbone_percent: float | None = None
    checkpoint_bytes: int = 0
    train_seconds: float = 0.0
    peak_memory: int = 0
    memory: str = ""
    images: dict[str, int] = field(default_factory=dict)
    failed: str = ""


def train_arm(
    setup: ArmSetup,
    data: TrainingData,
    *,
    values: Mapping[str, Any],
    seed: int,
    folder: Path,
    cache_dir: Path,
    data_digest: str,
    watch: Callable[[Any, Any], None] | None = None,
) -> Training:
    """Train an arm, or return the stored result of a call with the same settings.

    A killed training resumes after its last epoch; its seconds add up.

    Args:
        setup: the arm.
        data: the train and val images; a training gets no others.
        values: of the searched ids.
        seed: of the shuffling, and of random values of prompt and head.
        folder: for ``models/model.pt`` and ``training.json``; only for this training.
        cache_dir: features that all arms share.
        data_digest: fingerprint of the data.
        watch: called with the trainer and the evaluator before training, to attach handlers. An exception of such a
            handler ends the training, which resumes in the next call.
    """
    settings = settings_digest([setup.digest, dict(values), seed, data_digest])
    path = folder / "training.json"
    known = training_of(read_record(path))
    if known is not None and known.settings == settings and (known.failed or (folder / "models/model.pt").is_file()):
        return known
    started = folder / "started.json"
    resume = read_record(started).get("settings") == settings
    write_atomically(started, to_json({"settings": settings}).encode())
    record = _train(setup, data, values, seed, folder, cache_dir, resume=resume, watch=watch)
    training = Training(settings=settings, **record)
    write_atomically(path, to_json(jsonable(asdict(training))).encode())
    for leftover in (started, folder / "models/last.pt", folder / "seconds.json"):
        leftover.unlink(missing_ok=True)
    return training


def training_of(record: Mapping[str, Any]) -> Training | None:
    """Return a training from its JSON; None for another version of this software."""
    try:
        return Training(**record)
    except TypeError:
        return None


def read_record(path: Path) -> dict[str, Any]:
    """Read a JSON object; {} if it is missing or unreadable."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _train(
    setup: ArmSetup,
    data: TrainingData,
    values: Mapping[str, Any],
    seed: int,
    folder: Path,
    cache_dir: Path,
    *,
    resume: bool,
    watch: Callable[[Any, Any], None] | None,
) -> dict[str, Any]:
    parser = make_parser(
        setup.train,
        {**values, "seed": seed, "output_dir": str(folder), "cache_dir": str(cache_dir), "overwrite": True},
        datalist=data.datalist,
        images=data.images,
        id_map=data.datalist.id_map,
        checkpoint=str(folder / "models" / "model.pt"),
        resume=resume,
    )
    parser.get_parsed_content("initialize")
    trainer = parser.get_parsed_content("train#trainer")
    evaluator = parser.get_parsed_content("validate#evaluator")
    clock = _Clock(folder / "seconds.json", resume=resume)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, clock.keep)
    if watch is not None:
        watch(trainer, evaluator)
    try:
        with PeakMemory(trainer.state.device) as memory:
            clock.start()
            trainer.run()
    except Exception as error:
        known = user_error(error)
        if isinstance(known, NonFiniteLossError):
            return {"failed": str(known)}
        raise
    return {
        "metric": evaluator.state.key_metric_name,
        "score": float(evaluator.state.best_metric),
        "tie_break": getattr(evaluator.state, "best_tie_break", None),
        "epoch": int(evaluator.state.best_metric_epoch),
        "epochs": _epochs(trainer),
        "trainable_parameters": _trained_parameters(trainer),
        "backbone_percent": 100 * _trained_parameters(trainer) / _backbone_parameters(trainer),
        "checkpoint_bytes": (folder / "models/model.pt").stat().st_size,
        "train_seconds": clock.seconds(),
        "peak_memory": memory.peak,
        "memory": memory.kind,
        "images": {split: sum(item["split"] == split for item in data.images.data) for split in ("train", "val")},
    }


class _Clock:
    """Seconds of a training, including those before a kill: kept after every epoch."""

    def __init__(self, path: Path, *, resume: bool) -> None:
        self.path = path
        self.before = float(read_record(path).get("seconds", 0.0)) if resume else 0.0
        self.begin = time.perf_counter()

    def start(self) -> None:
        self.begin = time.perf_counter()

    def seconds(self) -> float:
        return self.before + time.perf_counter() - self.begin

    def keep(self) -> None:
        write_atomically(self.path, to_json({"seconds": self.seconds()}).encode())


def _epochs(trainer: Any) -> int:
    """Return the number of whole epochs; a training without any has no steps."""
    return int(trainer.state.iteration // trainer.state.epoch_length) if trainer.state.max_epochs else 0


def _trained_parameters(trainer: Any) -> int:
    """Return the number of parameters that a stage trains or solves."""
    network = unwrap(trainer.network)
    trained = {part for stage in trainer.stages for part, rate in stage.lr.items() if rate > 0}
    if any(stage.solve_head for stage in trainer.stages):
        trained.add("head")
    parts = [getattr(network, name, None) for name in PARTS if name in trained]
    return sum(parameter.numel() for part in parts if part is not None for parameter in part.parameters())


def _backbone_parameters(trainer: Any) -> int:
    backbone: Any = unwrap(trainer.network).backbone
    return sum(parameter.numel() for parameter in backbone.parameters())
