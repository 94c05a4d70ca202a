"""Export a run: write the file, compare it with the network, and keep it only if they agree."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

from torch import nn

from movl_monai.data.targets import labels_of
from movl_monai.errors import ConfigError, ExportError
from movl_monai.evaluation.trust_record import TRUST_FILE, read_trust
from movl_monai.report.tasks import task_named
from movl_monai.runs.run_record import Run, open_run

from .change import check_change, describe_change
from .exported import read_exported
from .graph import exportable
from .parity import ImageSample, Parity, check_parity, eager, measure_parity, sample_images
from .preprocessing import describe_inferer, literal_config
from .sealed import SUFFIXES, ExportFormat, describe_network, describe_trust, exported_format
from .writers import compile_graph, neighbor, quantize_model, write_compiled

__all__ = ["ExportedFile", "export_network", "export_run"]

_PARITY_IMAGES = 6
_INT8_IMAGES = 500


@dataclass(frozen=True)
class ExportedFile:
    """A written file.

    Args:
        path: path of the file.
        parity: difference from the network in eager mode.
        int8: effect of the quantisation; None for a float file. See :func:`~movl_monai.export.change.describe_change`.
    """

    path: Path
    parity: Parity
    int8: dict[str, Any] | None = None

    @property
    def megabytes(self) -> float:
        """Size of the file in units of 10^6 bytes."""
        return self.path.stat().st_size / 1e6


def export_run(
    source: str | os.PathLike[str],
    form: ExportFormat,
    *,
    output: str | os.PathLike[str] | None = None,
    tolerance: float = 1e-4,
    images: Sequence[str | os.PathLike[str]] = (),
    int8: bool = False,
    int8_max_drop: float = 0.02,
    trust: bool = True,
    overrides: Mapping[str, Any] | None = None,
    bundle_dir: str | os.PathLike[str] | None = None,
    trust_code: bool = False,
) -> list[ExportedFile]:
    """Write a trained run as one file.

    Args:
        source: folder of the run, or its checkpoint.
        form: "torchscript", "onnx" or "torch-export".
        output: the file, with the suffix of the format (.ts, .onnx, .pt2); None takes ``model`` with this suffix beside
            the checkpoint.
        tolerance: largest allowed difference from eager mode, of a logit (absolute) and of a feature (relative to the
            largest); see :class:`~movl_monai.export.parity.Parity`.
        images: folders or files to compare on; () takes ``val`` images if they are still found, else the phantom.
        int8: write a second, dynamically quantised ONNX file ``*.int8.onnx`` beside it. The file states the effect
            measured on up to 500 images of ``val`` (the run's evaluation knows their paths), or of ``images``.
        int8_max_drop: largest allowed drop in int8 of the balanced accuracy on labelled images; without labels, of the
            share of images (pixels) that keep their class.
        trust: include the trust record beside the checkpoint, if there is one.
        overrides: settings of the run to change, such as a new path of its weights.
        bundle_dir: bundle of the run; see :func:`~movl_monai.runs.run_record.open_run`.
        trust_code: build parts outside the allow-list; ``trust`` of the same function.

    Returns:
        the files: one, or two with int8.

    Raises:
        ExportError: if the network cannot be exported, differs by more than allowed (nothing is written then), or the
            file cannot be written.
        TrustError: if the trust record is damaged or belongs to another checkpoint.
        ConfigError: if a setting is out of range.
    """
    _check_settings(form, output=output, tolerance=tolerance, int8=int8, int8_max_drop=int8_max_drop)
    _check_source(Path(source))

    run = open_run(source, overrides=overrides, bundle_dir=bundle_dir, trust=trust_code)
    path = Path(output) if output is not None else run.checkpoint.with_name(f"model{SUFFIXES[form]}")
    network = run.network("cpu")
    parser = run.parser()
    facts, record = _trust_of(run, network) if trust else (None, "")
    metadata = _metadata(run, network, parser) | {"trust": facts}
    if int8 and labels_of(run.task).number:
        raise ConfigError("--int8 is for models of classes and findings; leave it out for one of a number.")
    if int8 and metadata.get("unit"):
        raise ExportError(
            "--int8 is for models of single images: its effect is measured image by image. Leave it out for a model of "
            "series, studies or patients."
        )
    sample = sample_images(run, images, count=_INT8_IMAGES if int8 else _PARITY_IMAGES)
    if int8 and sample.kind == "phantom":
        first = "evaluate it first (`movl-monai evaluate RUN --dataset_dir DIR`), which makes known where val is, or "
        raise ExportError(
            "What int8 changes is not known without images of the kind that this run is for: "
            f"{'' if task_named(run.task).per_pixel else first}name some (--images)."
        )
    if not int8:
        return [
            export_network(network, path, form, metadata=metadata, sample=sample, tolerance=tolerance, trust=record)
        ]
    return _export_both(
        network, path, metadata=metadata, sample=sample, tolerance=tolerance, trust=record, max_drop=int8_max_drop
    )


def export_network(
    network: nn.Module,
    path: Path,
    form: ExportFormat,
    *,
    metadata: Mapping[str, Any],
    sample: ImageSample,
    tolerance: float = 1e-4,
    trust: str = "",
) -> ExportedFile:
    """Write a network as one file, and keep the file only if it computes the same.

    Args:
        network: network with its checkpoint loaded; it is not changed.
        path: path of the file.
        form: format of the file.
        metadata: facts for the file; ``parity`` is added.
        sample: images to compare on.
        tolerance: see :func:`export_run`.
        trust: the trust record, base64.

    Raises:
        ExportError: as :func:`export_run`.
    """
    compiled = compile_graph(exportable(network), form, size=tuple(metadata["input_size"]))
    with neighbor(path) as temporary:
        parity = _write_checked(compiled, temporary, network, metadata, sample, tolerance, trust)
    return ExportedFile(path, parity)


def _export_both(
    network: nn.Module,
    path: Path,
    *,
    metadata: Mapping[str, Any],
    sample: ImageSample,
    tolerance: float,
    trust: str,
    max_drop: float,
) -> list[ExportedFile]:
    """Write an ONNX file and its int8 version, or neither."""
    few = replace(sample, images=sample.images[:_PARITY_IMAGES])
    compiled = compile_graph(exportable(network), "onnx", size=tuple(metadata["input_size"]))
    quantized = quantize_model(compiled)
    twin = path.with_name(f"{path.stem}.int8{path.suffix}")
    with neighbor(path) as temporary, neighbor(twin) as temporary_twin:
        parity = _write_checked(compiled, temporary, network, metadata, few, tolerance, trust)
        write_compiled(quantized, temporary_twin, metadata=metadata, trust=trust)
        exact = read_exported(temporary)
        task = task_named(metadata["task"])
        change = describe_change(exact, read_exported(temporary_twin), sample, trust=exact.trust(), task=task)
        check_change(change, max_drop=max_drop)
        change["max_drop"] = max_drop
        facts = {**metadata, "parity": parity.as_json(), "int8": change}
        write_compiled(quantized, temporary_twin, metadata=facts, trust=trust)
        read_exported(temporary_twin)
    return [ExportedFile(path, parity), ExportedFile(twin, parity, change)]


def _write_checked(
    compiled: Any,
    path: Path,
    network: nn.Module,
    metadata: Mapping[str, Any],
    sample: ImageSample,
    tolerance: float,
    trust: str,
) -> Parity:
    """Write a file, compare it with the network, and write it again with the result included."""
    write_compiled(compiled, path, metadata=metadata, trust=trust)
    reference = eager(network, metadata["windows"])
    logs = bool(getattr(network.head, "log_probabilities", False))
    compare = partial(measure_parity, reference, tolerance=tolerance, log_probabilities=logs)
    parity = compare(read_exported(path), sample)
    check_parity(parity)
    write_compiled(compiled, path, metadata={**metadata, "parity": parity.as_json()}, trust=trust)
    one = replace(sample, images=sample.images[:1])
    if not compare(read_exported(path), one).kept:
        raise ExportError("The file changed while it was written; export it again to another place (--output).")
    return parity


def _check_source(path: Path) -> None:
    if not path.is_file():
        return
    try:
        form = exported_format(path)
    except ExportError:
        return
    raise ExportError(
        f"{path.name} is an exported file already ({form}); give the run's folder or its checkpoint, such as model.pt."
    )


def _check_settings(
    form: str, *, output: str | os.PathLike[str] | None, tolerance: float, int8: bool, int8_max_drop: float
) -> None:
    if form not in get_args(ExportFormat):
        raise ConfigError(f"--format must be one of {', '.join(get_args(ExportFormat))}, got {form!r}.")
    if output is not None and (Path(output).suffix != SUFFIXES[form] or Path(output).is_dir()):
        raise ConfigError(
            f"--output must name a file that ends in {SUFFIXES[form]} for --format {form}, got {Path(output).name}; "
            f"try {Path(output).with_suffix(SUFFIXES[form]).name}, or another --format."
        )
    if not 0 < tolerance < float("inf"):
        raise ConfigError(f"--tolerance must be a number above 0, got {tolerance}; 1e-4 is usual.")
    if not 0 <= int8_max_drop <= 1:
        raise ConfigError(f"--int8_max_drop must be a share from 0 to 1, got {int8_max_drop}; 0.02 is usual.")
    if int8 and form != "onnx":
        raise ConfigError(f"--int8 is for --format onnx, which onnxruntime runs, got --format {form}.")


def _metadata(run: Run, network: Any, parser: Any) -> dict[str, Any]:
    image_size = _pair(parser.get_parsed_content("image_size"))
    windows = describe_inferer(parser.get_parsed_content("inferer"))
    input_size = image_size if windows is None else _pair(windows["roi_size"])
    described = describe_network(network, task=run.task, input_size=input_size)
    bundle = {"name": run.record.get("bundle"), "version": run.record.get("bundle_version")}
    return described | {
        "bundle": bundle,
        "image_size": list(image_size),
        "windows": windows,
        "preprocessing": literal_config(parser, "preprocessing"),
        "trained_with": run.record.get("versions"),
        "int8": None,
        **_chosen(parser, ("largest_component", "mask_dtype")),
    }


def _trust_of(run: Run, network: nn.Module) -> tuple[dict[str, Any] | None, str]:
    """Return the facts of the run's trust record and the record itself as base64; None and "" without one."""
    path = run.checkpoint.with_name(TRUST_FILE)
    if not path.is_file():
        return None, ""
    return describe_trust(read_trust(path, network)), base64.b64encode(path.read_bytes()).decode()


def _chosen(parser: Any, names: Sequence[str]) -> dict[str, Any]:
    return {name: literal_config(parser, name) for name in names if name in parser.get()}


def _pair(size: Any) -> tuple[int, int]:
    sides = [size, size] if isinstance(size, int) else list(size)
    return int(sides[0]), int(sides[1])
