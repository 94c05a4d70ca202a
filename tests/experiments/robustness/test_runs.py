"""Names of runs, and the data settings that they share."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from movl_monai.errors import ConfigError
from movl_monai.experiments.robustness.images import DATA_SETTINGS
from movl_monai.experiments.robustness.runs import NamedRun, _find, _names, _split, _with_weights, data_settings
from movl_monai.runs.run_record import Run


def names(*texts: str) -> list[str]:
    given = [_split(text) for text in texts]
    return _names([name for name, _ in given], [path for _, path in given])


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (("/out/probe", "/out/movl"), ["probe", "movl"]),
        (("/out/probe/seed_0", "/out/movl/seed_0"), ["probe/seed_0", "movl/seed_0"]),
        (("/out/probe/seed_0", "/out/movl/seed_1"), ["seed_0", "seed_1"]),
        (("LP=/out/a/seed_0", "/out/b/seed_0"), ["LP", "b/seed_0"]),
        (("/odd=name/run",), ["run"]),
    ],
)
def test_names_are_given_or_as_many_last_parts_of_the_folder_as_tell_runs_apart(
    texts: tuple[str, ...], expected: list[str]
) -> None:
    assert names(*texts) == expected


def test_a_checkpoint_is_called_as_its_run(tmp_path: Path) -> None:
    (tmp_path / "probe" / "models").mkdir(parents=True)
    (tmp_path / "probe" / "models" / "model.pt").touch()
    assert names(str(tmp_path / "probe" / "models" / "model.pt")) == ["probe"]


@pytest.mark.parametrize("texts", [("/out/probe", "/out/probe"), ("a=/x", "a=/y"), ("probe=/x", "/out/probe")])
def test_two_runs_of_one_name_are_refused(texts: tuple[str, str]) -> None:
    with pytest.raises(ConfigError, match="Two runs are called '(probe|a)'"):
        names(*texts)


def test_the_baseline_is_found_by_its_name_or_folder(tmp_path: Path) -> None:
    paths = [tmp_path / "a", tmp_path / "b"]
    assert _find("second", ["first", "second"], paths) == "second"
    assert _find(str(tmp_path / "x" / ".." / "a"), ["first", "second"], paths) == "first"
    assert _find(str(tmp_path / "c"), ["first", "second"], paths) is None


def recorded(name: str, **training: object) -> NamedRun:
    return NamedRun(
        name=name, run=Run(record={"settings": {"slice_axis": "axial"}, "training": training}, checkpoint=Path())
    )


def test_settings_of_the_data_set_are_those_that_all_runs_recorded_alike() -> None:
    runs = [
        recorded("a", seed=1, split_fractions=[0.6, 0.2, 0.2], id_domain="id", patient_pattern="$'x'", epochs=3),
        recorded("b", seed=2, split_fractions=[0.6, 0.2, 0.2], id_domain="id", patient_pattern="$'x'"),
    ]
    expected = {"id_domain": "id", "split_fractions": [0.6, 0.2, 0.2], "slice_axis": "axial"}
    assert data_settings(runs, DATA_SETTINGS) == expected


def test_weights_that_lie_elsewhere_are_for_the_runs_that_name_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Run, "parser", lambda run: SimpleNamespace(get=lambda: run.record))
    named, other = (Run(record=record, checkpoint=Path()) for record in ({"backbone_weights": "hub"}, {}))
    assert _with_weights(named, "new.pt").overrides == {"backbone_weights": "new.pt"}
    assert _with_weights(other, "new.pt").overrides == {}
