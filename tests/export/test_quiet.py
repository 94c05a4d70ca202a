"""Exporters do not show messages that only their developers can act on."""

from __future__ import annotations

import logging

import pytest

from movl_monai.export.graph import quiet_exporters


def test_exporters_say_nothing_below_a_warning_and_talk_as_before_afterwards(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    logger = logging.getLogger("onnx_ir.passes")
    with quiet_exporters():
        logger.info("Replaced initializer")
        logger.warning("odd opset")
    logger.info("afterwards")
    assert [record.message for record in caplog.records] == ["odd opset", "afterwards"]
