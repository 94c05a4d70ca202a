"""A training that kept its start reports it."""

from __future__ import annotations

import logging
import re
from types import SimpleNamespace
from typing import Any

import pytest
from ignite.engine import Engine

from movl_monai.engines import ValidateStart


@pytest.mark.parametrize(
    ("best", "solved", "words"),
    [(0, False, "THE START WAS KEPT.*an untrained head"), (0, True, "holds what was solved"), (1, False, None)],
)
def test_a_kept_start_is_told(best: int, solved: bool, words: str | None, caplog: pytest.LogCaptureFixture) -> None:
    state = SimpleNamespace(best_metric_epoch=best)
    validator: Any = SimpleNamespace(state=state, run=lambda **_: None)
    trainer = Engine(lambda *_: setattr(state, "best_metric_epoch", best))
    trainer.stages = [SimpleNamespace(solve_head=solved)]  # type: ignore[attr-defined]
    ValidateStart(validator).attach(trainer)
    trainer.run([0], max_epochs=1)
    told = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert bool(told) is (words is not None)
    if words:
        assert re.search(words, told[-1])
