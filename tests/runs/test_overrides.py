"""A mistyped id is an error that names the nearest one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from monai.bundle import ConfigWorkflow

from movl_monai.engines import check_ids, check_overrides, unreferenced_ids
from movl_monai.errors import ConfigError, user_error

CONFIG = {
    "imports": ["$import movl_monai.engines as engines"],
    "dataset_dir": "data",
    "epochs": 3,
    "result": "$(@dataset_dir, @epochs)",
    "initialize": ["$engines.check_overrides()"],
    "run": ["$@result"],
}


def _workflow(folder: Path, **overrides: object) -> ConfigWorkflow:
    (folder / "metadata.json").write_text("{}")
    (folder / "train.json").write_text(json.dumps(CONFIG))
    return ConfigWorkflow(config_file=str(folder / "train.json"), logging_file=False, **overrides)


def test_a_mistyped_override_is_refused_in_initialize_with_the_nearest_id(tmp_path: Path) -> None:
    workflow = _workflow(tmp_path, datset_dir="/elsewhere")
    with pytest.raises(RuntimeError) as caught:
        workflow.initialize()
    known = user_error(caught.value)
    assert isinstance(known, ConfigError)
    assert "'datset_dir' (did you mean 'dataset_dir'?)" in str(known)


def test_an_id_that_another_file_of_the_folder_has_may_stay_unread(tmp_path: Path) -> None:
    (tmp_path / "overlay.json").write_text(json.dumps({"prompt_lr": 1}))
    _workflow(tmp_path, prompt_lr=3).initialize()
    with pytest.raises(RuntimeError) as caught:
        _workflow(tmp_path, promt_lr=3).initialize()
    assert "did you mean 'prompt_lr'" in str(user_error(caught.value))


def test_a_right_override_passes(tmp_path: Path) -> None:
    workflow = _workflow(tmp_path, epochs=5)
    workflow.initialize()
    assert workflow.run() == [("data", 5)]


@pytest.mark.parametrize("reference", ["$@a + 1", "@a", "%a::b", "$f(@a#b)", "@##a"])
def test_every_form_of_reference_counts(reference: str) -> None:
    assert unreferenced_ids({"run": [reference], "a": 1}) == []


def test_a_reference_to_itself_does_not_count() -> None:
    assert unreferenced_ids({"a": "$@a"}) == ["a"]


def test_an_id_without_any_near_name_is_named_alone() -> None:
    with pytest.raises(ConfigError, match=r"reads 'zzz', 'qqq'\. Expected"):
        check_ids({"run": [], "zzz": 1, "qqq": 2})


def test_check_overrides_outside_a_config_says_so() -> None:
    with pytest.raises(ConfigError, match="must be called from an expression"):
        check_overrides()
