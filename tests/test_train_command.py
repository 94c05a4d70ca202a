"""`movl-monai train`: overlays and settings by name, the same training as `movl-monai run training`, its help."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from movl_monai.bundles import OVERLAY_KINDS, find_bundle, find_overlays, list_overlays, read_manual
from movl_monai.cli import main
from movl_monai.cli.bundle_help import shown_default
from movl_monai.runs.overrides import ENTRY_IDS
from tests.workflows import BUNDLES, FAST

# ids without structure that are parts, not settings
PARTS = ENTRY_IDS | {"class_names", "encoder", "network", "prompt", "adapter", "prepared_backbone", "preprocessing"}
PARTS |= {"inferer"}


def _is_plain(value: Any) -> bool:
    return not isinstance(value, Mapping) and not (isinstance(value, list) and any(map(_is_mapping, value)))


def _is_mapping(value: Any) -> bool:
    return isinstance(value, Mapping)


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)
def test_every_setting_and_overlay_has_one_line_and_no_line_is_left_over(bundle: Path) -> None:
    contents = {path.stem: json.loads(path.read_text()) for path in (bundle / "configs").glob("*.json")}
    del contents["metadata"]
    plain = {name for content in contents.values() for name, value in content.items() if _is_plain(value)}
    settings = {name for name in plain - PARTS if "#" not in name and not name.startswith("+")}
    manual = read_manual(bundle)
    lines = [(name, line) for group in manual.settings.values() for name, line in group.items()]
    # a setting of an overlay may be one of train.json with another meaning in the group of overlays
    assert {name for name, _ in lines} - {"operating_points"} == settings
    assert set(manual.overlays) == set(list_overlays(bundle))
    assert len(lines) - len({name for name, _ in lines}) == 0
    for name, line in [*lines, *manual.overlays.items()]:
        assert re.fullmatch(r"[^\n]{10,150}[^.\s]", line), name
    expressions = {name for name in settings if str(contents["train"].get(name, "")).startswith(("$", "@", "%"))}
    assert expressions <= set(manual.defaults)


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)
def test_help_behind_a_bundle_lists_its_overlays_and_settings(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["train", bundle.name, "--help"])
    text = " ".join(capsys.readouterr().out.split())
    manual, train = read_manual(bundle), json.loads((bundle / "configs/train.json").read_text())
    for group in manual.settings.values():
        for name in group.keys() & train.keys() - {"dataset_dir", "output_dir"}:
            assert f"--{name} {group[name]} (default: {shown_default(name, train, manual)})" in text
    for name, line in manual.overlays.items():
        assert f"{name.partition('_')[2] if name.split('_')[0] in OVERLAY_KINDS else name} {line}" in text


def _trained(monkeypatch: pytest.MonkeyPatch, words: list[str]) -> tuple[list[str], dict[str, Any]]:
    """The names of the config files, and the overrides, of a command that would train."""
    seen: list[Any] = []
    monkeypatch.setattr("movl_monai.cli.run.run_workflow", lambda *args, **_: seen.append(args))
    assert main(words) == 0
    ((run_id, files, overrides),) = seen
    assert run_id == "training"
    return [Path(file).name for file in files], overrides


@pytest.mark.parametrize(
    "words",
    [
        "train movl_classification {data} --output_dir o --strategy joint --backbone resnet50 --overlay augment "
        "--epochs 8",
        "train --epochs 8 --backbone resnet50 --overlay augment movl-classification --strategy joint {data} "
        "--output-dir o",
        "train --overlay=augment.json --strategy=strategy_joint.json --epochs=8 --output_dir=o --backbone=resnet50 "
        "movl_classification {data}",
    ],
)
def test_words_in_any_order_and_spelling_are_one_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    files, overrides = _trained(monkeypatch, words.format(data=tmp_path).split())
    assert files == ["train.json", "backbone_resnet50.json", "strategy_joint.json", "augment.json"]
    assert overrides == {"dataset_dir": str(tmp_path), "output_dir": "o", "epochs": 8}


@pytest.mark.parametrize(
    ("words", "files", "settings"),
    [
        ("movl_classification --strategy lp-then-joint --backbone efficientnet_lite0", [], {}),
        ("movl_classification --layers last --head-lr 1e-3", [], {"layers": "last", "head_lr": 1e-3}),
        ("movl_classification --prompt null", [], {"prompt": None}),
        ("movl_classification --strategy @other", [], {"strategy": "@other"}),
        ("dvpt_classification --adapter lora,last_third", ["adapter_lora.json", "adapter_last_third.json"], {}),
        ("dvpt_segmentation --overlay windows,windows_train", ["windows.json", "windows_train.json"], {}),
    ],
)
def test_names_of_kinds_are_overlays_and_other_pairs_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str, files: list[str], settings: dict[str, Any]
) -> None:
    bundle, *rest = words.split()
    found, overrides = _trained(monkeypatch, ["train", bundle, str(tmp_path), "--output_dir", "o", *rest])
    assert found == ["train.json", *files]
    assert overrides == {"dataset_dir": str(tmp_path), "output_dir": "o", **settings}


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)
def test_every_overlay_is_found_by_its_short_and_its_whole_name(bundle: Path) -> None:
    for name, path in list_overlays(bundle).items():
        kind, _, short = name.partition("_")
        assert find_overlays(bundle, {"overlay": [name]}) == [path]
        if kind in OVERLAY_KINDS:
            assert find_overlays(bundle, {kind: [short, name]}) == [path]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("movl_clasification {data}", "no bundle 'movl_clasification' (did you mean 'movl_classification'?)"),
        ("movl_classification {data}/nowhere", "There is no data set at"),
        (
            "movl_classification {data} --strategy jiont",
            "no strategy 'jiont' in the bundle movl_classification (did you",
        ),
        (
            "movl_classification {data} --adapter lora",
            "movl_classification; dvpt_classification has it. Leave `--adapter`",
        ),
        ("movl_classification {data} --overlay strategy_jiont", "did you mean 'strategy_joint'?"),
        ("movl_classification {data} --dataset_dir x", "`--dataset_dir` is given twice"),
        ("movl_classification {data} --epochs", "`--epochs` has no value"),
    ],
)
def test_mistakes_are_told_before_torch_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: str, message: str
) -> None:
    monkeypatch.setattr("movl_monai.cli.run.run_workflow", None)
    assert main(["train", *words.format(data=tmp_path).split(), "--output_dir", "o"]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:parsing config_file")
def test_train_and_run_training_give_the_same_checkpoint_and_record(phantom: Path, tmp_path: Path) -> None:
    settings = [word for name, value in FAST.items() for word in (f"--{name}", str(value))]
    configs = find_bundle("movl_classification") / "configs"
    files = [str(configs / name) for name in ("train.json", "strategy_joint.json", "layers_last.json")]
    data, one, other = str(phantom), str(tmp_path / "one"), str(tmp_path / "other")
    named = ["movl_classification", data, "--overlay", "layers_last", "--strategy", "joint"]
    log = tmp_path / "log.txt"
    words = ["train", *named, "--output_dir", one, *settings, "--quiet", "--log_file", str(log)]
    trained = subprocess.run([sys.executable, "-m", "movl_monai", *words], capture_output=True, text=True, check=True)
    assert (trained.stdout, trained.stderr) == (f"Run: {one}\n", "")
    *messages, last = log.read_text().splitlines()
    assert last == f"Next: movl-monai evaluate {one} --dataset_dir DATA"
    assert any("Epoch[1] Metrics" in line for line in messages)
    assert not any("%|" in line for line in messages)
    run = ["run", "training", "--config_file", *files, "--dataset_dir", data, "--output_dir", other]
    assert main([*run, *settings]) == 0
    assert (tmp_path / "one/models/model.pt").read_bytes() == (tmp_path / "other/models/model.pt").read_bytes()
    records = [json.loads((tmp_path / name / "models/run.json").read_text()) for name in ("one", "other")]
    for record in records:
        assert record.pop("splits_sha256")  # salted for each run
    assert records[0] == records[1]
    assert {"strategy_joint.json", "layers_last.json"} <= records[0]["files_sha256"].keys()
