"""Models of units in one file: parity for every pooling and format, any number of images, predict."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from movl_monai.errors import ExportError
from movl_monai.export import read_exported
from movl_monai.export.exporting import export_run
from movl_monai.predict.model import open_model
from tests.helpers import QUIET
from tests.predict.conftest import SIZE
from tests.predict.test_units import unit_run

pytestmark = QUIET
CASES = [("attention", "onnx"), ("noisy_or", "onnx"), ("max", "torchscript"), ("noisy_or", "torch-export")]


@pytest.mark.parametrize(("pooling", "form"), CASES)
def test_a_file_gives_the_units_of_its_run(pooling: str, form: str, tmp_path: Path) -> None:
    run = unit_run(tmp_path / "run", "study", pooling)
    (file,) = export_run(run, form)  # type: ignore[arg-type]
    assert file.parity.logits < 1e-4
    assert read_exported(file.path).unit == {"unit": "study", "every_nth": 1, "max_instances": 1000}
    images = torch.randint(0, 255, (40, 3, SIZE, SIZE), dtype=torch.uint8)
    from_run, from_file = open_model(run, device="cpu"), open_model(file.path)
    assert from_file.units == from_run.units
    for count in (1, 2, 40):  # beyond one pass of the run's backbone
        expected = from_run.unit_forward(images[:count])  # type: ignore[misc]
        found = from_file.unit_forward(images[:count])  # type: ignore[misc]
        for name, value in vars(expected).items():
            np.testing.assert_allclose(getattr(found, name), value, atol=1e-4, rtol=1e-4, err_msg=name)


def test_int8_of_units_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="--int8 is for models of single images"):
        export_run(unit_run(tmp_path / "run", "study"), "onnx", int8=True)
