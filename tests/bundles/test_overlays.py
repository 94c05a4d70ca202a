"""Overlays count in every order, or are refused."""

from __future__ import annotations

import json
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.bundle.scripts import create_workflow

from movl_monai.errors import ConfigError, user_error
from movl_monai.id_values import parse_overrides
from movl_monai.runs.overlays import check_overlays, own_ids
from movl_monai.runs.overrides import ENTRY_IDS, reachable
from movl_monai.runs.verbatim import as_written, keep_strings

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
NAMES = ("movl_classification", "dvpt_classification", "dvpt_segmentation")
pytestmark = pytest.mark.filterwarnings("ignore:parsing config_file")  # MONAI says so of every file
OWN = {"train.json", "evaluate.json", "inference.json", "metadata.json"}


def _contents(bundle: str) -> dict[str, dict[str, Any]]:
    files = sorted((BUNDLES / bundle / "configs").glob("*.json"))
    return {file.name: ConfigParser.load_config_file(str(file)) for file in files}


def _overlap(one: dict[str, Any], other: dict[str, Any]) -> set[str]:
    """The ids of the first that the second sets to another value, in part or as a whole."""
    mine, theirs = ({name.replace("#", "::"): value for name, value in content.items()} for content in (one, other))
    plain = {name for name in own_ids(other) if not name.startswith("+")}
    same = {name for name in plain if name in mine and name in theirs and mine[name] == theirs[name]}
    return {
        a
        for a in own_ids(one)
        for b in plain - same
        if f"{a}::".lstrip("+").startswith(f"{b}::") or f"{b}::".startswith(f"{a}::")
    }


def _survives(merged: ConfigParser, name: str, value: Any) -> bool:
    if not name.startswith("+"):
        return bool(merged[name] == value)
    return all(part in merged[name[1:]] for part in value)


# lists of train.json that overlays extend and never replace
LISTS = ("imports", "initialize", "training", "finalize", "train#augmentations", "train#handlers", "validate#handlers")


@pytest.mark.parametrize("bundle", NAMES)
def test_every_pair_of_overlays_keeps_its_values_in_both_orders(bundle: str) -> None:
    contents = _contents(bundle)
    folder = BUNDLES / bundle / "configs"
    base = ConfigParser(contents["train.json"])
    for first, second in permutations(set(contents) - OWN, 2):
        files = [folder / "train.json", folder / first, folder / second]
        merged = ConfigParser(ConfigParser.load_config_files([str(file) for file in files]))
        lost = [name for name, value in contents[second].items() if not _survives(merged, name, value)]
        shared = _overlap(contents[first], contents[second])
        kept = {name: value for name, value in contents[first].items() if name.replace("#", "::") not in shared}
        lost += [name for name, value in kept.items() if not _survives(merged, name, value)]
        assert not lost, (first, second)
        for name in LISTS:
            added = [entry for file in (first, second) for entry in contents[file].get(f"+{name}", [])]
            assert merged[name] == [*base[name], *added], (first, second, name)


@pytest.mark.parametrize("overlays", list(permutations(["augment.json", "windows_train.json"])))
def test_crops_and_augmentation_are_both_drawn_in_the_order_of_their_files(overlays: tuple[str, ...]) -> None:
    folder = BUNDLES / "dvpt_segmentation" / "configs"
    files = [folder / name for name in ("train.json", "windows.json", *overlays)]
    parser = ConfigParser(ConfigParser.load_config_files([str(file) for file in files]))
    parts = [type(part).__name__ for part in parser.get_parsed_content("train#augmentations")]
    names = {"augment.json": "RandomAugmentImaged", "windows_train.json": "RandSpatialCropd"}
    assert parts == [names[overlay] for overlay in overlays]


@pytest.mark.parametrize("bundle", NAMES)
def test_only_alternatives_set_the_same_id(bundle: str) -> None:
    contents = {name: content for name, content in _contents(bundle).items() if name not in OWN}
    # what replaces what: a method, its parts and the data come once each
    method = {"strategy", "adapter", "prompt", "backbone", "model", "head", "layers", "task", "unit"}
    kinds = {name: "method" if name.split("_")[0] in method else name for name in contents}
    alternatives = {frozenset({"data_ct.json", "data_neighbors.json"})}
    for one, other in permutations(contents, 2):
        if _overlap(contents[one], contents[other]):
            assert kinds[one] == kinds[other] or frozenset({one, other}) in alternatives, (one, other)


@pytest.mark.parametrize("bundle", NAMES)
def test_an_overlay_before_the_workflow_is_refused_with_the_right_order(bundle: str) -> None:
    folder = BUNDLES / bundle / "configs"
    for overlay in sorted(set(_contents(bundle)) - {"train.json", "inference.json", "metadata.json"}):
        with pytest.raises(ConfigError, match=rf"`--config_file train\.json {overlay}`"):
            check_overlays([folder / overlay, folder / "train.json"], read=set())


def _check(bundle: str, *overlays: str) -> None:
    files = [BUNDLES / bundle / "configs" / name for name in ("train.json", *overlays)]
    merged = ConfigParser.load_config_files([str(file) for file in files])
    check_overlays(files, read=reachable(merged, ENTRY_IDS))


@pytest.mark.parametrize("bundle", NAMES)
def test_every_overlay_alone_counts(bundle: str) -> None:
    for overlay in set(_contents(bundle)) - OWN - {"windows_train.json"}:
        _check(bundle, overlay)
        _check(bundle, overlay, "evaluate.json")


@pytest.mark.parametrize(
    ("bundle", "overlays", "dead"),
    [
        ("dvpt_classification", ["adapter_lora.json", "adapter_ssf.json"], "adapter_lora.json"),
        ("dvpt_classification", ["adapter_dvpt_static.json", "strategy_movl.json"], "adapter_dvpt_static.json"),
        ("movl_classification", ["strategy_linear_probe.json", "strategy_full_finetune.json"], "strategy_linear_probe"),
        ("movl_classification", ["backbone_clip_rn50.json", "backbone_vit_small.json"], "backbone_clip_rn50.json"),
    ],
)
def test_an_overlay_without_a_value_left_is_refused(bundle: str, overlays: list[str], dead: str) -> None:
    with pytest.raises(ConfigError, match=f"{dead}.* changes nothing"):
        _check(bundle, *overlays)


def test_equal_values_of_two_files_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    _check("dvpt_segmentation", "windows.json", "windows_train.json", "augment.json")
    assert "replace values" not in caplog.text


def test_values_that_a_later_file_replaces_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    _check("dvpt_classification", "prompt_pad.json", "strategy_linear_probe.json")
    assert "replace values of prompt_pad.json: strategy (by strategy_linear_probe.json)" in caplog.text


CONFIG = {
    "imports": ["$import movl_monai.engines as engines"],
    "bundle_root": ".",
    "dataset_dir": "data",
    "names": [],
    "rate": 1,
    "initialize": ["$engines.check_overrides()"],
    "run": ["$(@dataset_dir, @names)"],
}


def _made(folder: Path, *files: str, **overrides: Any) -> ConfigWorkflow:
    contents = {"train": CONFIG, "a": {"dataset_dir": "Study #2/a%#b"}, "b": {"lora_rank": 4}}
    for name, content in contents.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    (folder / "metadata.json").write_text(json.dumps({"task": "one label", "name": "x"}))
    paths = [str(folder / f"{name}.json") for name in files]
    return create_workflow(config_file=paths, logging_file=False, **overrides)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"task": "ordinal"}, "reads 'task'"),
        ({"name": "y"}, r"reads 'name' \(did you mean 'names'"),
        ({"lora_rank": 8}, "it is of b.json: add that file"),
        ({"rate": 3}, "`--rate` would have no effect with these config files"),
    ],
)
def test_ids_of_no_chosen_config_file_are_refused(tmp_path: Path, overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(RuntimeError) as caught:
        _made(tmp_path, "train", **overrides)
    with pytest.raises(ConfigError, match=message):
        raise user_error(caught.value) or caught.value


@pytest.mark.parametrize("text", ["Out #7", "a::b #1", "it's #1 'x'", "#", "C:\\x\\#1", "名 #3", "a@b#c", 'say "#"'])
def test_strings_arrive_as_written(tmp_path: Path, text: str) -> None:
    assert _made(tmp_path, "train", dataset_dir=text).run() == [(text, [])]
    config = {**CONFIG, "dataset_dir": text, "names": [text, {"a": text}]}
    parser = ConfigParser(keep_strings(config))
    assert [parser.get_parsed_content(name) for name in ("dataset_dir", "names")] == [text, [text, {"a": text}]]
    assert as_written(keep_strings(config)) == config


def test_strings_of_config_files_arrive_as_written(tmp_path: Path) -> None:
    workflow = _made(tmp_path, "train", "a", names="$['x #1', len('#')]")
    assert workflow.run() == [("Study #2/a%#b", ["x #1", 1])]
    assert workflow.parser.get()["_config_files_"] == ["train.json", "a.json"]


def test_a_workflow_of_unknown_sources_refuses_changed_strings(tmp_path: Path) -> None:
    _made(tmp_path, "train")
    workflow = ConfigWorkflow(config_file=str(tmp_path / "train.json"), logging_file=False, dataset_dir="Out #7")
    for make in (workflow.initialize, lambda: _made(tmp_path, "train", names=["a #1"])):
        with pytest.raises(RuntimeError) as caught:
            make()
        assert "MONAI writes in the place of '#'" in str(user_error(caught.value))


def test_typed_strings_are_taken_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["run", "--dataset_dir", "Out #8", "--names=['a #1', 'b']"])
    assert _made(tmp_path, "train", dataset_dir="Out", names=["a ::1", "b"]).run() == [("Out #8", ["a #1", "b"])]


@pytest.mark.parametrize(("text", "value"), [("2024 #3", "2024 #3"), ("['a#', 1]", ["a#", 1]), ("3", 3)])
def test_a_number_sign_is_no_comment(text: str, value: Any) -> None:
    assert parse_overrides(["--x", text]) == {"x": value}


@pytest.mark.parametrize("bundle", [name for name in NAMES if name.endswith("classification")])
def test_a_head_behind_the_exact_probe_trains_at_a_rate_per_feature_and_one_from_zero_does_not(bundle: str) -> None:
    """A fixed rate undoes the probe, the faster the more features; a head of zeros would hardly move at the other."""
    train = _contents(bundle)["train.json"]
    checked = 0
    for name, content in _contents(bundle).items():
        merged = {**train, **content}
        stages = merged["strategy"] if name == "train.json" or "strategy" in content else []
        for number, stage in enumerate(stages):
            solved = any(earlier.get("solve_head") for earlier in stages[:number])
            if stage.get("lr", {}).get("head") == "@query_lr":
                assert solved
                assert "linear_lr_scale=@head_lr / @query_lr" in merged["optimizer"]["params"], name
            elif stage.get("lr", {}).get("head") == "@head_lr":
                assert ("num_features" in str(merged["head_lr"])) == solved, name
                checked += 1
    assert checked >= 3
