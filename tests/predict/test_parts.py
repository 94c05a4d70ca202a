"""Units, batches in order, the journal, selection of series, and batch sizes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from movl_monai.data.series import Selection, SeriesScan
from movl_monai.errors import DataError, MovlError
from movl_monai.evaluation.rows import image_rows, results_csv
from movl_monai.evaluation.trust_record import TrustRecord
from movl_monai.predict import loader
from movl_monai.predict.journal import Journal
from movl_monai.predict.loader import Decoding, load_units, make_units, plan_decoding
from movl_monai.predict.tasks import Computer


def item(name: str, case: str | None = None, **more: Any) -> dict[str, Any]:
    return {"id": name, "image": name, "case": case or name, **more}


def level(data: Mapping[Any, Any]) -> dict[str, Any]:
    """A transform that makes an image from the item's name; for some names it fails or kills its process."""
    if data["image"] == "kill":
        os._exit(1)
    if data["image"] == "fail":
        raise ValueError("damaged")
    return {"image": torch.full((3, 2, 2), int(data["image"]) / 255)}


def test_volumes_are_units_of_their_own_and_images_between_them_are_put_together() -> None:
    items = [item("a"), item("b"), *(item(f"v{k}", "v", frame=k) for k in range(5)), item("c"), item("d"), item("e")]
    units = make_units(items, 2, by_case=True)
    assert [[one["id"] for one in unit.items] for unit in units] == [
        ["a", "b"],
        ["v0", "v1", "v2", "v3", "v4"],
        ["c", "d"],
        ["e"],
    ]
    assert [unit.is_volume for unit in units] == [False, True, False, False]
    assert len({unit.key for unit in units}) == 4


@pytest.mark.parametrize("decoding", [Decoding(0), Decoding(2), Decoding(2, ahead=False)])
def test_batches_come_in_order_whatever_order_they_are_decoded_in(decoding: Decoding) -> None:
    items = [item(str(k)) for k in range(7)] + [item(f"{k}", "v", frame=k) for k in range(10, 15)]
    units = make_units(items, 3, by_case=True)
    found = [
        ([one["id"] for one in batch], [int(one.image[0, 0, 0]) for one in decoded if one.image is not None], last)
        for _, batch, decoded, last in load_units(units, level, batch_size=3, decoding=decoding)
    ]
    assert [batch for batch, _, _ in found] == [
        ["0", "1", "2"],
        ["3", "4", "5"],
        ["6"],
        ["10", "11", "12"],
        ["13", "14"],
    ]
    assert all([int(name) for name in batch] == values for batch, values, _ in found)
    assert [last for _, _, last in found] == [True, True, True, False, True]


@pytest.mark.parametrize("ahead", [True, False])
def test_a_file_that_kills_its_worker_costs_that_file_only(ahead: bool) -> None:
    units = make_units([item(name) for name in ("1", "kill", "2", "fail", "3")], 2)
    batches = load_units(units, level, batch_size=2, decoding=Decoding(1, ahead))
    decoded = [one for _, _, batch, _ in batches for one in batch]
    assert [one.reason for one in decoded] == ["", "worker_died", "", "unexpected_error", ""]


@pytest.mark.parametrize(
    ("cores", "threads", "device", "processes", "expected"),
    [
        (2, 2, "cpu", 1, Decoding(2, ahead=False)),  # the network takes all cores: they take turns
        (2, 1, "cpu", 1, Decoding(1, ahead=True)),
        (64, 32, "cpu", 1, Decoding(8, ahead=True)),
        (8, 1, "cpu", 4, Decoding(1, ahead=True)),
        (8, 2, "cpu", 4, Decoding(2, ahead=False)),
        (16, 16, "cuda", 1, Decoding(8, ahead=True)),
        (1, 1, "cuda", 1, Decoding(1, ahead=True)),
        (16, 16, "cuda", 8, Decoding(1, ahead=True)),
    ],
)
def test_cores_that_the_network_leaves_free_decode_ahead(
    cores: int, threads: int, device: str, processes: int, expected: Decoding, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader, "available_cores", lambda: cores)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert plan_decoding(torch.device(device), processes=processes) == expected
    assert plan_decoding(torch.device(device), num_workers=3, processes=processes) == Decoding(3, expected.ahead)


def test_a_journal_forgets_a_line_that_was_cut_off_and_refuses_other_settings(tmp_path: Path) -> None:
    journal = Journal(tmp_path, settings={"model": "a"}, first=lambda: {"batch_size": 4})
    journal.add("one", [{"id": "0a"}])
    journal.add("two", [{"id": "0b"}])
    journal.close()
    journal.path.write_bytes(journal.path.read_bytes()[:-5])
    again = Journal(tmp_path, settings={"model": "a"}, first=lambda: {"batch_size": 8})
    assert again.done == {"one": [{"id": "0a"}]}
    assert again.fixed == {"batch_size": 4}
    again.add("two", [{"id": "0c"}])
    again.close()
    other = Journal(tmp_path, settings={"model": "a"}, rank=1)
    assert other.done["two"] == [{"id": "0c"}]
    other.close()
    with pytest.raises(DataError, match="another model"):
        Journal(tmp_path, settings={"model": "b"})


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_full_disk_is_a_clear_error(tmp_path: Path) -> None:
    journal = Journal(tmp_path, settings={})
    journal._stream.close()
    journal._stream = open("/dev/full", "wb", buffering=0)  # noqa: SIM115 - closed below
    with pytest.raises(MovlError, match="No space left on device.*free some"):
        journal.add("one", [])
    journal.close()


def scan(series: str, *, modality: str = "CT", study: str = "1", **more: Any) -> SeriesScan:
    return SeriesScan(path=series, study=study, series=series, instance=series, modality=modality, **more)


@pytest.mark.parametrize(
    ("scans", "modalities", "reasons"),
    [
        ([scan("a")], [], {}),
        ([scan("a"), scan("b")], [], {"a": "several_series", "b": "several_series"}),
        ([scan("a"), scan("b", modality="MR")], ["mr"], {"a": "unsupported_modality"}),
        ([scan("a"), scan("b", is_localizer=True)], [], {"b": "not_selected"}),
        ([scan("a"), scan("b", is_capture=True)], [], {"b": "not_selected"}),
        ([scan("b", is_capture=True)], [], {}),
        ([scan("b", is_localizer=True)], [], {"b": "no_image_series"}),
        ([scan("a"), scan("b", study="2")], [], {}),
        ([scan("a"), scan("b", study="2", modality="US")], ["CT"], {"b": "unsupported_modality"}),
    ],
)
def test_one_series_of_each_study_is_taken_or_none(
    scans: list[SeriesScan], modalities: list[str], reasons: dict[str, str]
) -> None:
    found = Selection(modalities=modalities, one=True).reasons({one.path: one for one in scans})
    assert found == reasons


class _Small:
    """A model that accepts at most three images at once."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, np.ndarray | None]:
        self.sizes.append(len(images))
        if len(images) > 3:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")
        return images.flatten(1)[:, :2].float(), np.zeros((len(images), 1))


def test_batches_that_do_not_fit_are_halved_and_give_the_same() -> None:
    model: Any = _Small()
    images = torch.arange(8 * 12, dtype=torch.uint8).reshape(8, 3, 2, 2)
    computer = Computer(model)
    logits, features = computer(images)
    torch.testing.assert_close(logits, images.flatten(1)[:, :2].float())
    assert features is not None
    assert features.shape == (8, 1)
    assert model.sizes == [8, 4, 2, 2, 2, 2]
    computer(images[:2])
    assert model.sizes[-1] == 2


def test_an_error_of_another_kind_is_not_taken_for_missing_memory() -> None:
    model: Any = _Small()
    model.forward = lambda images: (_ for _ in ()).throw(RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError, match="shapes"):
        Computer(model)(torch.zeros(2, 3, 2, 2, dtype=torch.uint8))


def test_rows_say_what_the_trust_record_knows() -> None:
    record = TrustRecord(checkpoint_sha256="0" * 64, class_names=["no", "yes"], temperature=2.0, least_confidence=0.9)
    logits = np.array([[4.0, 0.0], [0.0, 1.0]])
    rows = image_rows(["0a", "0b"], [{}, {"rows": 3}], logits, None, class_names=["no", "yes"], trust=record)
    assert rows[0]["calibrated"] == pytest.approx([1 / (1 + np.exp(-2)), 1 / (1 + np.exp(2))])
    assert [row["abstain"] for row in rows] == [False, True]
    assert [row["answer"] for row in rows] == ["no", "No answer: not sure enough"]
    assert (rows[1]["calibrated"], rows[1]["predicted"]) == (None, "yes")
    assert rows[0]["outside"] is None
    text = results_csv(rows, ["no", "yes"])
    header, first, second = text.splitlines()
    facts, over_classes = "format,modality,frame,rows,columns", "probability_no,probability_yes,calibrated_no"
    assert header == (
        f"id,status,reason,detail,answer,{facts},predicted,predicted_number,{over_classes},calibrated_yes,"
        "ood_score,outside,abstain,prediction_set"
    )
    assert first.endswith(",,,no,")
    assert second.startswith("0b,ok,,,No answer: not sure enough,,,,3,,yes,1,")
    assert second.endswith(",,,,,yes,")
    assert results_csv([], ["no", "yes"]).strip() == header
