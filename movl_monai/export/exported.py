"""An exported model: one file that maps images to logits, in any export format."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from movl_monai.errors import ExportError

from .runtimes import Runtime, open_runtime
from .sealed import ExportFormat, check_intact, check_metadata, exported_format

if TYPE_CHECKING:
    from monai.transforms import Compose

    from movl_monai.evaluation.trust_record import TrustRecord

__all__ = ["ExportedModel", "ExportedOutput", "read_exported"]

_SLACK = 1e-3  # tolerance beyond [0, 1], for resampling


class ExportedOutput(NamedTuple):
    """Output of an exported model for a batch.

    Args:
        logits: float32, (B, num_classes), or (B, num_classes, H, W) for segmentation; before softmax.
        features: float32, (B, num_features), the input of the head; None for segmentation.
        weights: of a model for series, studies or patients, float32 (n,), the weight of each image; else None. Its
            logits and features have one row, for the n images together.
        instances: of such a model, float32 (n, num_classes), the logits of each image by itself; else None.
    """

    logits: np.ndarray
    features: np.ndarray | None
    weights: np.ndarray | None = None
    instances: np.ndarray | None = None


class ExportedModel:
    """A network in one file with everything that its use needs: preprocessing, class names, trust record, weights.

    Made by :func:`read_exported`.

    Attributes:
        format: "onnx", "torchscript" or "torch-export".
        metadata: JSON-able facts, see :mod:`movl_monai.export.sealed`.
    """

    def __init__(self, runtime: Runtime, form: ExportFormat) -> None:
        self.format: ExportFormat = form
        self.metadata: dict[str, Any] = runtime.metadata
        self._runtime = runtime

    @property
    def task(self) -> str:
        """Name of the task, such as "classification" of images or "segmentation" of their pixels."""
        return str(self.metadata["task"])

    @property
    def class_names(self) -> list[str]:
        """Names of the classes in the order of the logits."""
        return list(self.metadata["class_names"])

    @property
    def image_size(self) -> tuple[int, int]:
        """Size (H, W) of the preprocessed images, in pixels."""
        height, width = self.metadata["image_size"]
        return int(height), int(width)

    @property
    def unit(self) -> dict[str, Any] | None:
        """Settings of :class:`movl_monai.data.Units`, if a batch is one series, study or patient; else None."""
        return self.metadata.get("unit")

    def trust(self) -> TrustRecord | None:
        """Return the trust record for calibrated probabilities, flags and prediction sets; None without one.

        Raises:
            TrustError: if it is damaged or belongs to another checkpoint.
        """
        from movl_monai.evaluation.trust_record import decode_trust

        if not self._runtime.trust:
            return None
        return decode_trust(base64.b64decode(self._runtime.trust), self.metadata["checkpoint_sha256"])

    def preprocessing(self) -> Compose:
        """Return the transforms of training and evaluation: ``{"image": path}`` to ``{"image": (3, H, W), ...}``.

        Raises:
            ExportError: if the file names anything but transforms of this package and of MONAI.
        """
        from .preprocessing import build_preprocessing

        return build_preprocessing(self.metadata["preprocessing"])

    def __call__(self, image: np.ndarray) -> ExportedOutput:
        """Compute logits, with a sliding window if the run used one.

        Args:
            image: (B, 3, H, W) of ``image_size``, float32 in [0, 1], B >= 1; of a model with a :attr:`unit` all images
                of one, in any order.

        Raises:
            ExportError: if the images have another shape, type or range, or a logit is not finite.
        """
        image = self._checked(image)
        if self.metadata["windows"] is None:
            found = self.network(image)
        else:
            from .preprocessing import window_logits

            windows = self.metadata["windows"]
            found = ExportedOutput(*window_logits(lambda part: self.network(part).logits, image, windows))
        if not np.isfinite(found.logits).all():
            raise ExportError("The exported model gave logits that are not finite; look at the images it was given.")
        return found

    def network(self, image: np.ndarray) -> ExportedOutput:
        """Run the graph on images of ``metadata["input_size"]`` without any checks."""
        outputs = self._runtime.run(np.ascontiguousarray(image))
        return ExportedOutput(*outputs) if len(outputs) > 1 else ExportedOutput(outputs[0], None)

    def _checked(self, image: np.ndarray) -> np.ndarray:
        expected = (3, *self.image_size)
        if not isinstance(image, np.ndarray) or image.dtype != np.float32:
            found = getattr(image, "dtype", type(image).__name__)
            raise ExportError(
                f"Images must be a numpy array of float32 in [0, 1], got {found}; divide 0..255 by 255 and use "
                "astype('float32')."
            )
        if image.ndim != 4 or image.shape[1:] != expected or not len(image):
            raise ExportError(
                f"Images must be (B, {', '.join(map(str, expected))}) with B >= 1, got {image.shape}; use the model's "
                "own preprocessing()."
            )
        low, high = float(image.min()), float(image.max())
        if not (low >= -_SLACK and high <= 1 + _SLACK):  # false if a value is NaN
            raise ExportError(
                f"Images must be in [0, 1], got values from {low:.3g} to {high:.3g}; the model normalises inside, so "
                "give it neither 0..255 nor standardised values."
            )
        return image


def read_exported(
    path: str | os.PathLike[str],
    *,
    task: str | None = None,
    num_threads: int | None = None,
) -> ExportedModel:
    """Open an exported file of any format; ONNX runs in onnxruntime on the CPU, the others in torch.

    The format is recognised by the content, and every byte is checked. The graph runs without Python code, but open
    only files from sources that you trust.

    Args:
        path: file written by `movl-monai export`.
        task: required task, "classification" or "segmentation"; None accepts both.
        num_threads: threads per call; None leaves it to the runtime.

    Raises:
        ExportError: if the file does not exist, is damaged, has another format, was not written by `movl-monai export`
            or by a newer version, or is for another task.
    """
    if num_threads is not None and num_threads < 1:
        raise ExportError(f"num_threads must be at least 1, or None for the runtime's own choice, got {num_threads}.")
    path = Path(path)
    form = exported_format(path)
    check_intact(path, form)
    runtime = open_runtime(path, form, num_threads=num_threads)
    check_metadata(runtime.metadata, name=path.name, task=task)
    return ExportedModel(runtime, form)
