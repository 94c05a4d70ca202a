"""Counts of right and wrong reads: the judge on answers with a known verdict, the oracle, a process that dies."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.readers.__main__ import compare_readers, main
from benchmarks.readers.judge import Answer, judge
from benchmarks.readers.process import ReaderProcess
from benchmarks.readers.synthetic import write_failure_files
from benchmarks.readers.table import RULE, format_results
from benchmarks.readers.truth import Truth, judged_frames, truth_of
from tests.readers.dicom.objects import as_file, grey_object, shipped

RNG = np.random.default_rng(0)
VALUES = RNG.uniform(-1000, 1000, (4, 6, 9))  # frames, rows, columns
COLOURS = RNG.uniform(0, 255, (4, 6, 9, 3))


def truth(values: np.ndarray, **options: object) -> Truth:
    facts = {
        "kind": "image",
        "frames": tuple(range(len(values))),
        "frame_count": len(values),
        "shown": tuple((plane - values.min()) / np.ptp(values) for plane in values),
        "values": tuple(values),
        "padding": (None,) * len(values),
        "value_tolerance": 1e-3,
    }
    return Truth(**(facts | options))  # type: ignore[arg-type]


def monais(array: np.ndarray) -> Answer:
    return Answer(status="read", array=array)


@pytest.mark.parametrize(
    ("values", "array"),
    [
        (VALUES, VALUES.transpose(2, 1, 0)),  # (W, H, F)
        (VALUES, VALUES.transpose(1, 2, 0)),  # (H, W, F)
        (VALUES, VALUES.transpose(2, 1, 0) * 3 + 7),
        (VALUES[:1], VALUES[0].T),
        (VALUES[:1], VALUES[0].T[..., None]),
        (COLOURS, COLOURS.transpose(2, 1, 0, 3)),
        (COLOURS[:1], COLOURS[0].transpose(1, 0, 2)),
        (COLOURS[:1], COLOURS[0].transpose(1, 0, 2)[:, :, None]),
        (COLOURS[:1], COLOURS[0].transpose(2, 1, 0)),  # (C, W, H)
    ],
)
def test_any_documented_order_and_positive_scale_is_right(values: np.ndarray, array: np.ndarray) -> None:
    assert judge(truth(values), monais(array)).outcome == "right"


@pytest.mark.parametrize(
    ("values", "array", "facts", "why"),
    [
        (VALUES, VALUES.transpose(1, 0, 2), (), "frames and rows exchanged"),
        (VALUES[:1], -VALUES[0].T, (), "inverted"),
        (VALUES[:1], np.sqrt(VALUES[0].T + 1000), ("modality LUT",), "Modality LUT ignored"),
        (VALUES[:1], np.sqrt(VALUES[0].T + 1000), (), "values"),
        (VALUES[:1], np.roll(VALUES[0].T, 1, axis=0), (), "values"),
        (VALUES[:1], VALUES[0].T * 0, (), "constant"),
        (COLOURS[:1], VALUES[0].T, ("photometric:PALETTE COLOR",), "palette indices as grey"),
        (COLOURS[:1], COLOURS[0].transpose(1, 0, 2)[..., ::-1], (), "values"),
        (VALUES[:1], VALUES[0, :, :5].T, (), "shape"),
    ],
)
def test_everything_else_is_wrong_and_named(
    values: np.ndarray, array: np.ndarray, facts: tuple[str, ...], why: str
) -> None:
    verdict = judge(truth(values, facts=facts), monais(array))
    assert (verdict.outcome, verdict.detail) == ("wrong", why)


def test_our_own_images_must_be_those_of_the_truth_on_its_scale() -> None:
    expected = truth(VALUES)
    images = np.stack([np.stack([plane] * 3) for plane in expected.shown])
    assert judge(expected, Answer(status="read", array=images + 0.9 / 255, is_display=True)).outcome == "right"
    for wrong, why in ((images + 1.5 / 255, "up to 1.5/255 away"), (1 - images, "away"), (images[..., :5], "shape")):
        verdict = judge(expected, Answer(status="read", array=wrong, is_display=True))
        assert verdict.outcome == "wrong"
        assert why in verdict.detail


def test_padding_is_counted_and_not_compared() -> None:
    padding = np.zeros((6, 9), dtype=bool)
    padding[:, :3] = True
    expected = truth(VALUES[:1], padding=(padding,))
    padded = np.where(padding, -2e4, VALUES[0])
    assert judge(expected, monais(padded.T)).outcome == "right"
    assert judge(expected, monais(padded.T)).keeps_padding
    black = np.where(padding, 0, expected.shown[0])
    ours = judge(expected, Answer(status="read", array=np.stack([[black] * 3]), is_display=True))
    assert (ours.outcome, ours.keeps_padding) == ("right", False)
    kept = judge(expected, Answer(status="read", array=np.stack([[expected.shown[0]] * 3]), is_display=True))
    assert kept.keeps_padding


@pytest.mark.parametrize("kind", ["mask", "no image", "damaged"])
def test_what_is_no_image_is_wrong_when_read_and_right_when_refused(kind: str) -> None:
    nothing = Truth(kind=kind)  # type: ignore[arg-type]
    assert judge(nothing, monais(VALUES[0])).detail == f"{kind} read as an image"
    assert judge(nothing, Answer(status="refused", detail="not_image")).outcome == "refused"
    assert judge(nothing, Answer(status="crashed", detail="exit -11")).outcome == "crashed"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("MR_small.dcm", "image"),
        ("JPEG2000.dcm", "image"),
        ("liver_1frame.dcm", "mask"),
        ("test-SR.dcm", "no image"),
        ("DICOMDIR", "no image"),
        ("README.txt", "no image"),
        ("MR_truncated.dcm", "damaged"),
    ],
)
def test_the_kind_of_a_file_is_told_without_our_reader(name: str, kind: str) -> None:
    assert truth_of(shipped(name)).kind == kind


def test_dcmtk_and_the_formulas_agree_where_both_know(monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("dcmj2pnm") is None:
        pytest.skip("dcmj2pnm (dcmtk) is not installed: there is no rendering to compare with")
    for name in ("CT_small.dcm", "MR_small.dcm", "SC_rgb_rle_2frame.dcm", "examples_palette.dcm", "rtdose.dcm"):
        rendered = truth_of(shipped(name))
        monkeypatch.setattr("benchmarks.readers.truth.render", lambda *_, **__: None)
        computed = truth_of(shipped(name))
        monkeypatch.undo()
        assert (rendered.source, computed.source) == ("dcmtk", "pydicom and formulas")
        assert rendered.frames == computed.frames == judged_frames(rendered.frame_count)
        for one, other in zip(rendered.shown, computed.shown, strict=True):
            np.testing.assert_allclose(np.clip(other, 0, 1), one, atol=1.01 / 255)


def test_our_reader_reads_every_synthetic_failure_right(tmp_path: Path) -> None:
    files = write_failure_files(tmp_path)
    found = compare_readers({"set": files}, ["movl_monai"], seconds=60)["set"]["movl_monai"]
    assert len(found) == len(files) == 25
    for known, verdict in found:
        assert verdict.outcome == ("right" if known.kind == "image" else "refused"), verdict
        assert not verdict.keeps_padding
    assert {verdict.detail for known, verdict in found if known.kind != "image"} == {
        "truncated",
        "bad_rescale",
        "not_image",
    }


def test_the_truth_of_the_synthetic_files_is_what_dcmtk_and_pydicom_see(tmp_path: Path) -> None:
    agreed = 0
    for path, written in write_failure_files(tmp_path).items():
        if written.kind != "image":
            continue
        seen = truth_of(path)
        if seen.kind != "image":  # files that only a reader that infers tags can read
            continue
        agreed += 1
        for one, other, padding in zip(written.shown, seen.shown, written.padding, strict=True):
            shown = np.where(padding, 0, other) if padding is not None else other
            expected = np.where(padding, 0, one) if padding is not None else one
            np.testing.assert_allclose(np.clip(shown, 0, 1), expected, atol=1.01 / 255, err_msg=path.name)
    assert agreed >= 15


def test_a_reader_that_dies_or_hangs_costs_that_file_only(tmp_path: Path) -> None:
    script = tmp_path / "reader.py"
    script.write_text(
        "import json, os, sys, time\n"
        "for line in sys.stdin:\n"
        "    path = os.path.basename(json.loads(line)['path'])\n"
        "    if 'dies' in path: os.kill(os.getpid(), 11)\n"
        "    if 'hangs' in path: time.sleep(60)\n"
        "    print(json.dumps({'status': 'refused', 'detail': 'seen'}), flush=True)\n"
    )
    command = [sys.executable, str(script)]
    with ReaderProcess("any", seconds=1, start_seconds=60, command=command) as reader:
        for _ in range(2):
            assert reader.read(tmp_path / "good.dcm", []) == Answer(status="refused", detail="seen")
            assert reader.read(tmp_path / "dies.dcm", []) == Answer(status="crashed", detail="exit -11")
        assert reader.read(tmp_path / "good.dcm", []).detail == "seen"
        assert reader.read(tmp_path / "hangs.dcm", []) == Answer(status="crashed", detail="time limit")
        assert reader.read(tmp_path / "good.dcm", []).detail == "seen"


def test_monais_pydicom_reader_is_asked_and_judged(tmp_path: Path) -> None:
    plain = as_file(grey_object(np.arange(48, dtype=np.uint8).reshape(6, 8)), tmp_path / "plain.dcm")
    inverted = np.arange(48, dtype=np.uint8).reshape(6, 8)
    negative = as_file(grey_object(inverted, photometric="MONOCHROME1"), tmp_path / "negative.dcm")
    files = {plain: None, negative: None}
    found = compare_readers({"set": files}, ["PydicomReader"], seconds=60)["set"]["PydicomReader"]
    assert [verdict.outcome for _, verdict in found] == ["right", "wrong"]
    assert found[1][1].detail == "inverted"


def test_the_table_counts_images_and_others_apart() -> None:
    image, nothing = truth(VALUES[:1]), Truth(kind="no image")
    right = judge(image, monais(VALUES[0].T))
    refused = Answer(status="refused", detail="not_image")
    results = {
        "set": {
            "ours": [(image, right), (image, judge(image, refused)), (nothing, judge(nothing, refused))],
            "theirs": [(image, judge(image, monais(-VALUES[0].T))), (nothing, judge(nothing, monais(VALUES[0])))],
        }
    }
    text = format_results(results)
    assert "| set | 3 | 2 | ours | 1 | 0 | 1 | 1 | 0 | 0 | not_image 2 |" in text
    assert "| set | 2 | 1 | theirs | 0 | 2 | 0 | 0 | 0 | 0 |  |" in text
    assert "- set, theirs: inverted 1, no image read as an image 1" in text
    assert format_results({"set": {"ours": [(image, right)]}}).endswith("None is wrong.")
    died = judge(image, Answer(status="crashed", detail="exit -11"))
    assert format_results({"set": {"theirs": [(image, died)]}}).endswith("crashed:\n\n- set, theirs: exit -11 1")


def test_the_command_writes_the_rule_the_versions_and_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("benchmarks.readers.__main__._files", lambda *_: [shipped("MR_small.dcm")])
    (tmp_path / "mine").mkdir()
    as_file(grey_object(np.eye(6, dtype=np.uint8)), tmp_path / "mine" / "x.dcm")
    assert main(["--ours", "--output", str(tmp_path / "out.md"), str(tmp_path / "mine")]) == 0
    text = (tmp_path / "out.md").read_text(encoding="utf-8")
    assert RULE in text
    assert "pydicom 3" in text
    assert "| pydicom, shipped | 1 | 1 | movl_monai | 1 | 0 |" in text
    assert "| mine | 1 | 1 | movl_monai | 1 | 0 |" in text
    assert str(tmp_path) not in text
    assert text.split("\n\n", 1)[1] in capsys.readouterr().out
    with pytest.raises(SystemExit, match="Expected a folder"):
        main(["--ours", str(tmp_path / "nothing")])
